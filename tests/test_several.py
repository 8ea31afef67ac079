"""A classroom and the public, against running apps: nobody sees what is another's.

By the page, by the endpoints, by the events behind the page and by the addresses of files.
"""

import contextlib
import json
import re
import time

import pytest
from browser import chromium, lacking, open_tab, serving, visiting
from conftest import pictures
from PIL import Image
from tiny import bands, trained

pytest.importorskip("gradio")

import httpx  # noqa: E402, with gradio
from gradio_client import Client, handle_file  # noqa: E402
from gradio_client.exceptions import AppError  # noqa: E402

from ftlab.lab import Lab  # noqa: E402
from ftlab.passwords import give  # noqa: E402

needs_browser = pytest.mark.skipif(bool(lacking()), reason=lacking() or "")


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A classroom with a shared data set; ann has a data set and a trained study of her own."""
    folder = tmp_path_factory.mktemp("room")
    home = folder / "home"
    home.mkdir()
    bands(home, name="shared")
    ann = Lab(home).of("ann").home
    trained(ann, data=bands(ann, name="hers"), name="secret")
    passwords = give(folder / "class.txt", ["ann", "ben"])
    with serving(home, "app.py", "--classroom", str(folder / "class.txt")) as address:
        yield address, passwords, home


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    home = tmp_path_factory.mktemp("public") / "home"
    home.mkdir()
    bands(home, name="shared")
    with serving(home, "app.py", "--public", "--limit", "study_epochs=4") as address:
        yield address, home


def logged_in(room, name: str) -> httpx.Client:
    address, passwords, _ = room
    client = httpx.Client(base_url=address, timeout=60)
    form = {"username": name, "password": passwords[name]}
    assert client.post("/login", data=form).status_code == 200
    return client


def api(room, name: str) -> Client:
    address, passwords, _ = room
    return Client(address, auth=(name, passwords[name]), verbose=False)


def picture(tmp_path):
    pixels, _ = pictures(1)
    file = tmp_path / "picture.png"
    Image.fromarray(pixels[0]).save(file)
    return file


def said(call, *arguments, api_name) -> str:
    with pytest.raises(AppError) as error:
        call.predict(*arguments, api_name=api_name)
    return str(error.value)


def ask(client: httpx.Client, name: str, *data) -> str:
    """What an endpoint answers to curl."""
    event = client.post(f"/gradio_api/call/{name}", json={"data": data})
    if event.status_code != 200:
        return f"{event.status_code} {event.text}"
    return client.get(f"/gradio_api/call/{name}/{event.json()['event_id']}").text


# --- a classroom ---


def test_nobody_comes_in_without_a_password(room):
    with httpx.Client(base_url=room[0]) as client:
        for path in ("config", "gradio_api/info", "gradio_api/file=/etc/passwd"):
            assert client.get(path).status_code in (401, 403)
        form = {"username": "ann", "password": "guess"}
        assert client.post("/login", data=form).status_code == 400


def test_endpoints_know_what_is_shared_and_ones_own_and_nothing_else(room, tmp_path):
    ann, ben = api(room, "ann"), api(room, "ben")
    hers, his = (
        {s["study"] for s in who.predict(api_name="/studies")["data"]}
        if isinstance(who.predict(api_name="/studies"), dict)
        else {s["study"] for s in who.predict(api_name="/studies")}
        for who in (ann, ben)
    )
    assert hers - his == {"secret"} and "reference" in his
    image = handle_file(str(picture(tmp_path)))
    assert len(ann.predict(image, "secret", api_name="/predict")["images"]) == 1
    missing = "There is no study 'secret'; there are reference."
    for name, arguments in (
        ("/status", ["secret"]),
        ("/stop", ["secret"]),
        ("/predict", [image, "secret"]),
        ("/explain", [image, "secret"]),
        ("/status", ["../../ann/checkpoints/secret"]),
    ):
        sentence = said(ben, *arguments, api_name=name)
        assert sentence == missing.replace("secret", arguments[-1])
    assert "There is no data set 'hers'" in said(
        ben, "hers", "ftlab_mini", ["full"], 1, 1, api_name="/start"
    )


def test_a_study_that_one_starts_is_ones_own_and_can_be_stopped_by_nobody_else(room):
    ann, ben = api(room, "ann"), api(room, "ben")
    study = ann.predict("hers", "ftlab_mini", ["linear_probe"], 1, 1, api_name="/start")["study"]
    assert "There is no study" in said(ben, study, api_name="/stop")
    until = time.monotonic() + 120
    while ann.predict(study, api_name="/status")["state"] != "finished":
        assert time.monotonic() < until
        time.sleep(1)
    assert (room[2] / "people" / "ann" / "checkpoints" / study / "study.json").exists()


def test_a_file_is_served_to_whom_it_belongs_and_read_for_nobody_else(room, tmp_path):
    ann, ben = logged_in(room, "ann"), logged_in(room, "ben")
    with open(picture(tmp_path), "rb") as file:
        (path,) = ann.post("/gradio_api/upload", files={"files": file}).json()
    assert ann.get(f"/gradio_api/file={path}").status_code == 200
    assert ben.get(f"/gradio_api/file={path}").status_code == 404
    data = {"path": path, "meta": {"_type": "gradio.FileData"}}
    assert "probs" in ask(ann, "predict", data, "reference")
    assert ask(ben, "predict", data, "reference").startswith("404")


def test_the_events_behind_the_page_are_ones_own_too(room):
    """Every event of few inputs is sent a name of ann's: to ben it gives nothing away."""
    ben = logged_in(room, "ben")
    config = ben.get("/config").json()
    tried = 0
    for event in config["dependencies"]:
        inputs = event["inputs"]
        if not event["backend_fn"] or not 0 < len(inputs) < 4:
            continue
        body = {"fn_index": event["id"], "session_hash": "bens", "trigger_id": None}
        for name in ("secret", "hers"):
            joined = ben.post("/gradio_api/queue/join", json=body | {"data": [name] * len(inputs)})
            assert joined.status_code in (200, 422)
            tried += joined.status_code == 200
    assert tried > 20
    heard = []
    with contextlib.suppress(httpx.ReadTimeout):
        with ben.stream("GET", "/gradio_api/queue/data?session_hash=bens", timeout=20) as stream:
            for line in stream.iter_lines():
                heard.append(line)
                done = sum('"process_completed"' in line for line in heard)
                if done == tried or "close_stream" in line:
                    break
    told = [json.loads(line[5:]) for line in heard if line.startswith("data:")]
    ended = [message for message in told if message["msg"] == "process_completed"]
    assert len(ended) >= tried * 0.9
    text = json.dumps([message.get("output", {}) for message in ended])
    text = re.sub(r"There is no (study|data set) '(secret|hers)'", "", text)
    assert "full-test_resnet-s0" not in text and "people/ann" not in text


@needs_browser
def test_two_people_at_two_browsers_see_their_own(room):
    address, passwords, _ = room
    with chromium() as browser:
        seen = {}
        for name in ("ann", "ben"):
            with visiting(browser, address) as page:
                page.get_by_label("username").fill(name)
                page.get_by_label("password").fill(passwords[name])
                page.get_by_role("button", name="Login").click()
                page.locator(".ft-card").first.wait_for()
                open_tab(page, "Data")
                page.get_by_role("radio", name=re.compile("^shared")).wait_for()
                data = page.locator(".ft-datasets label").all_inner_texts()
                open_tab(page, "Fine-tune")
                open_tab(page, "Studies")
                page.locator(".ft-studies label").first.wait_for()
                studies = page.locator(".ft-studies label").all_inner_texts()
                seen[name] = " ".join(data), " ".join(studies)
                out = page.get_by_role("link", name="Log out").get_attribute("href")
                page.goto("about:blank")  # a poll that meets the log-out would be an error on it
                page.goto(address + out)
                page.get_by_label("username").wait_for()
        assert "hers" in seen["ann"][0] and "secret" in seen["ann"][1]
        assert "hers" not in seen["ben"][0] and "secret" not in seen["ben"][1]


# --- the public ---


def visitor(address: str) -> httpx.Client:
    """A browser that has opened the page."""
    client = httpx.Client(base_url=address, timeout=60)
    assert client.get("/", headers={"accept": "text/html"}).status_code == 200
    return client


def test_visitors_own_what_they_start_within_limits(public):
    address, home = public
    one, other = visitor(address), visitor(address)
    large = ask(one, "start", "shared", "ftlab_mini", ["linear_probe"], 5, 1)
    assert "Here a study may train 4 epochs in all, and this one asks for 5" in large
    study = re.search(
        r'"study": ?"([^"]+)"', ask(one, "start", "shared", "ftlab_mini", ["linear_probe"], 1, 1)
    )[1]
    assert study in ask(one, "studies") and study not in ask(other, "studies")
    assert "There is no study" in ask(other, "status", study)
    assert len(list((home / "people").iterdir())) >= 2
    ask(one, "stop", study)


def test_whoever_sends_no_cookie_may_look_and_start_nothing(public, tmp_path):
    client = Client(public[0], verbose=False)
    image = handle_file(str(picture(tmp_path)))
    assert len(client.predict(image, "reference", api_name="/predict")["images"][0]["runs"]) == 9
    refused = said(client, "shared", "ftlab_mini", ["full"], 1, 1, api_name="/start")
    assert "sends no cookie" in refused


def test_visitors_cannot_fetch_each_others_pictures(public, tmp_path):
    one, other = visitor(public[0]), visitor(public[0])
    with open(picture(tmp_path), "rb") as file:
        (path,) = one.post("/gradio_api/upload", files={"files": file}).json()
    assert one.get(f"/gradio_api/file={path}").status_code == 200
    assert other.get(f"/gradio_api/file={path}").status_code == 404


@needs_browser
def test_a_visitor_is_told_that_nothing_stays(public):
    with chromium() as browser, visiting(browser, public[0]) as page:
        page.get_by_text("Public: your data is deleted after 2 hours without you").wait_for()
        page.locator(".ft-card").first.wait_for()
