"""The public endpoints: which there are, what they answer, and that they give nothing away."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import
gr = pytest.importorskip("gradio")

import httpx  # noqa: E402, with gradio
from gradio_client import Client, handle_file  # noqa: E402
from gradio_client.exceptions import AppError  # noqa: E402

from ftlab.records import BadInput  # noqa: E402
from ftlab.ui import endpoints, words  # noqa: E402

WAIT_SECONDS = 60
PUBLIC = {  # name -> (parameters, and those that may be left out)
    "/predict": (["image", "study"], ["study"]),
    "/explain": (["image", "study", "method", "target"], ["study", "method", "target"]),
    "/start": (["dataset", "backbone", "strategies", "epochs", "seeds"], ["epochs", "seeds"]),
    "/status": (["study"], []),
    "/stop": (["study"], []),
    "/studies": ([], []),
    "/strategies": ([], []),
}


class FakeLab:
    """Answers as the lab does and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def predict(self, images, name):
        if name == "broken":
            raise RuntimeError(f"secret of {images[0]}")
        if name != "reference":
            raise BadInput(f"There is no study {name!r}; give another with --study.")
        self.asked.append(np.asarray(Image.open(images[0])))
        runs = [{"run": "tiny-full-0", "strategy": "full", "backbone": "tiny", "probs": [0.2, 0.8]}]
        found = {"file": str(images[0]), "notes": [], "runs": runs}
        return {"classes": ["a", "b"], "without_weights": [], "images": [found]}

    def explain(self, image, name, **options):
        self.asked.append(options)
        found = self.predict([image], name)
        overlay = np.full((6, 8, 3), 7, np.uint8)
        extra = {"target": "b", "raw": [-1.0, 2.0], "native": [2, 2], "overlay": overlay}
        runs = [run | extra | {"saliency": object()} for run in found["images"][0]["runs"]]
        return {"classes": ["a", "b"], "target": "b", "file": str(image), "notes": [], "runs": runs}

    def enqueue(self, question, owner=""):
        self.asked.append((question, owner))
        return "study-1"

    def status(self, name):
        return {"study": name, "state": "running", "epochs_done": 3, "seconds_left": None}

    def stop(self, name):
        return name == "study-1"

    def studies(self):
        return [{"study": "study-1", "state": "running"}]

    def strategies(self):
        return [{"name": "full", "source": "-", "summary": "everything"}]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """(lab, address) of a served page with the endpoints and an event of its own."""
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("cache"))
    lab = FakeLab()
    with gr.Blocks() as demo:
        box = gr.Textbox()
        box.change(lambda text: text, box, box, api_name="predict")
        demo.load(lambda: "loaded", None, box)
        endpoints.publish(demo, lab)
    _, address, _ = demo.queue().launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    yield lab, address
    demo.close()
    del os.environ["GRADIO_TEMP_DIR"]


@pytest.fixture
def lab(app):
    app[0].asked.clear()
    return app[0]


@pytest.fixture(scope="module")
def client(app, tmp_path_factory):
    return Client(app[1], verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "anna schmidt.png"
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(path)
    return path


def post(app, name, *data):
    address = f"{app[1]}gradio_api/run/{name}"
    return httpx.post(address, json={"data": list(data)}, timeout=WAIT_SECONDS)


def test_these_endpoints_and_no_others_are_public(client):
    found = client.view_api(return_format="dict")
    assert not found["unnamed_endpoints"]
    named = {
        name: (
            [p["parameter_name"] for p in entry["parameters"]],
            [p["parameter_name"] for p in entry["parameters"] if p["parameter_has_default"]],
        )
        for name, entry in found["named_endpoints"].items()
    }
    assert named == PUBLIC


def test_the_whole_app_publishes_these_and_keeps_every_other_event_private(home):
    from ftlab.lab import Lab
    from ftlab.modes import ONE
    from ftlab.ui import build

    demo = build(Lab(home), ONE)
    assert set(demo.get_api_info()["named_endpoints"]) == set(PUBLIC)
    open_ones = {f"/{e.api_name}" for e in demo.fns.values() if e.api_visibility != "private"}
    assert open_ones == set(PUBLIC)


def test_every_endpoint_is_documented_and_typed(client):
    for name, entry in client.view_api(return_format="dict")["named_endpoints"].items():
        assert len(entry["description"]) > 20, name
        types = [p["python_type"]["type"] for p in entry["parameters"] + entry["returns"]]
        assert set(types) <= {
            *("str", "int", "filepath", "list[str]", "dict(str, Any)", "list[dict(str, Any)]")
        }, name


def test_the_events_of_the_page_cannot_be_called_by_their_names(app):
    assert post(app, "load").status_code != 200
    assert "probs" in str(post_picture(app).json())  # /predict is the endpoint, not the event


def post_picture(app, name: str = "predict", *more: str):
    """Upload a picture and predict or explain it, as with curl."""
    data = BytesIO()
    Image.new("RGB", (2, 2)).save(data, "PNG")
    files = {"files": ("x.png", data.getvalue())}
    upload = httpx.post(f"{app[1]}gradio_api/upload", files=files, timeout=WAIT_SECONDS)
    image = {"path": upload.json()[0], "meta": {"_type": "gradio.FileData"}}
    return post(app, name, image, "reference", *more)


def test_predict_answers_as_the_command_line_and_names_no_path(client, lab, picture):
    answer = client.predict(handle_file(picture), api_name="/predict")
    assert answer["classes"] == ["a", "b"]
    assert answer["images"][0]["runs"][0]["probs"] == [0.2, 0.8]
    assert answer["images"][0]["file"] == "anna schmidt.png"
    assert np.array_equal(lab.asked[0], np.asarray(Image.open(picture)))


def test_explain_gives_the_overlay_of_every_run_as_a_file(client, lab, picture):
    answer = client.predict(handle_file(picture), target="b", api_name="/explain")
    (run,) = answer["runs"]
    assert np.array_equal(np.asarray(Image.open(run["overlay"])), np.full((6, 8, 3), 7))
    assert run["overlay"].endswith("tiny-full-0.png")
    assert "saliency" not in run and run["native"] == [2, 2]
    assert lab.asked[0] == {"method": "gradcam", "target": "b"}


def test_many_who_explain_one_picture_each_get_a_whole_overlay(app):
    """A picture that is written again while somebody reads it would be cut short."""

    def overlays(_) -> int:
        whole = 0
        for _ in range(5):
            (run,) = post_picture(app, "explain", "gradcam", "").json()["data"][0]["runs"]
            path = f"{app[1]}gradio_api/file={run['overlay']['path']}"
            found = Image.open(BytesIO(httpx.get(path, timeout=WAIT_SECONDS).content))
            whole += np.array_equal(np.asarray(found), np.full((6, 8, 3), 7))
        return whole

    with ThreadPoolExecutor(12) as people:
        assert sum(people.map(overlays, range(12))) == 60


def test_explain_without_a_class_leaves_the_choice_to_the_lab(client, lab, picture):
    client.predict(handle_file(picture), method="layercam", api_name="/explain")
    assert lab.asked[0] == {"method": "layercam", "target": None}


def test_start_asks_the_question_and_queues_it(client, lab):
    answer = client.predict("bands", "tiny", ["full", "l2_sp"], 4, 2, api_name="/start")
    ((question, owner),) = lab.asked
    assert answer == {"study": "study-1"} and owner == ""
    assert (question.data, question.backbones) == ("bands", ["tiny"])
    assert (list(question.strategies), list(question.seeds)) == (["full", "l2_sp"], [0, 1])
    assert question.settings.epochs == 4


def test_status_stop_and_the_lists(client):
    assert client.predict("study-1", api_name="/status")["epochs_done"] == 3
    assert client.predict("study-1", api_name="/stop") == {"study": "study-1", "stopped": True}
    assert client.predict(api_name="/studies") == [{"study": "study-1", "state": "running"}]
    assert client.predict(api_name="/strategies")[0]["name"] == "full"


def test_bad_input_ends_in_its_sentence(client, picture):
    with pytest.raises(AppError) as error:
        client.predict(handle_file(picture), "none", api_name="/predict")
    assert str(error.value) == "There is no study 'none'; give another with study."


def test_what_nobody_foresaw_gives_nothing_away_and_is_logged(client, picture, caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(AppError) as error:
        client.predict(handle_file(picture), "broken", api_name="/predict")
    assert str(error.value) == words.FAILED
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    "name, data, said",
    [
        ("start", ["bands", "tiny", "full", 2, 1], "strategies is a list of texts, not 'full'."),
        ("start", ["bands", "tiny", ["full"], "2", 1], "epochs is a whole number, not '2'."),
        ("start", ["bands", "tiny", ["full"], 2, 0], "seeds is at least 1, not 0."),
        ("status", [{"a": 1}], "study is a text, not \"{'a': 1}\"."),
        ("predict", ["x.png", "reference"], "image is an uploaded file"),
    ],
)
def test_arguments_of_another_kind_are_refused_in_a_sentence(app, lab, name, data, said):
    answer = post(app, name, *data)
    assert answer.status_code == 500 and said in answer.json()["error"]
    assert not lab.asked


@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}])
def test_a_file_that_was_not_uploaded_is_never_read(app, lab, picture, meta):
    answer = post(app, "predict", {"path": str(picture), **meta}, "reference")
    assert answer.status_code == 500 and not lab.asked
    assert str(picture.parent) not in answer.text


def test_with_curl_a_picture_is_uploaded_and_then_predicted(app):
    answer = post_picture(app).json()["data"][0]
    assert answer["images"][0]["runs"][0]["strategy"] == "full"
