"""A bare Gradio page with the kinds of components the app has: what its accessibility lacks."""

import os

import gradio as gr

with gr.Blocks() as demo, gr.Tabs():
    with gr.Tab("One"):
        gr.HTML("<p>text</p>")
        gr.Radio(["a", "b"], value="a", label="Radio")
        gr.CheckboxGroup(["a", "b"], value=["a"], label="Checkboxes")
        gr.Checkbox(label="Checkbox")
        gr.Dropdown(["a", "b"], value="a", label="Dropdown")
        gr.Dropdown(["a", "b"], value=["a"], multiselect=True, label="Several")
        gr.Textbox(label="Text")
        gr.Number(1, label="Number")
        gr.Slider(0, 1, label="Slider")
        gr.Button("Button", variant="primary")
        gr.DownloadButton("Download")
        with gr.Accordion("Accordion"):
            gr.File(label="File", file_types=[".zip"])
            gr.File(label="Files", file_count="multiple")
            gr.Image(label="Image", sources=["upload", "clipboard"])
            gr.Gallery([], label="Gallery")
            gr.Plot(label="Plot")
            gr.Dataframe([[1, 2]], headers=["a", "b"], label="Table", interactive=False)
        with gr.Accordion("Folded", open=False):
            gr.Markdown("text")
    with gr.Tab("Two"):
        gr.HTML("<p>text</p>")

if __name__ == "__main__":
    demo.launch(
        server_port=int(os.environ["FTLAB_PORT"]), quiet=True, footer_links=["api", "settings"]
    )
