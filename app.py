"""The app for one person at 127.0.0.1:7860, and the entry of a Hugging Face Space.

Host and port come from FTLAB_HOST and FTLAB_PORT, or from Gradio's own variables. In a Space it
serves the public. Options are those of `ftlab serve`.
"""

import os
import sys

from ftlab.__main__ import main

if __name__ == "__main__":
    host = os.environ.get("FTLAB_HOST") or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    port = os.environ.get("FTLAB_PORT") or os.environ.get("GRADIO_SERVER_PORT") or "7860"
    public = ["--public"] if os.environ.get("SPACE_ID") else []
    sys.argv = ["ftlab", "serve", "--host", host, "--port", port, *public, *sys.argv[1:]]
    main()
