"""The users' file of a classroom."""

import stat

import pytest

from ftlab.passwords import checker, give, read
from ftlab.records import BadInput


def test_a_password_that_was_given_is_the_only_one_that_fits(tmp_path):
    file = tmp_path / "class.txt"
    given = give(file, ["ann", "ben"])
    check = checker(file)
    assert check("ann", given["ann"]) and check("ben", given["ben"])
    wrong = [("ann", given["ben"]), ("ann", ""), ("cem", ""), ("", ""), ("ann", given["ann"] + " ")]
    assert not any(check(*pair) for pair in wrong)


def test_the_file_holds_no_password_and_is_its_owners_alone(tmp_path):
    file = tmp_path / "class.txt"
    (password,) = give(file, ["ann"]).values()
    assert password not in file.read_text() and len(password) == 17
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_new_password_ends_the_old_one_without_a_restart_and_leaves_others_alone(tmp_path):
    file = tmp_path / "class.txt"
    first = give(file, ["ann", "ben"])
    check = checker(file)
    second = give(file, ["ann"])
    assert check("ann", second["ann"]) and not check("ann", first["ann"])
    assert check("ben", first["ben"]) and list(read(file)) == ["ann", "ben"]


def test_an_empty_line_shuts_nobody_out(tmp_path):
    file = tmp_path / "class.txt"
    given = give(file, ["ann"])
    file.write_text(f"\n{file.read_text()}\n\n")
    assert checker(file)("ann", given["ann"])


def test_equal_passwords_have_different_hashes(tmp_path, monkeypatch):
    monkeypatch.setattr("ftlab.passwords._part", lambda: "same")
    file = tmp_path / "class.txt"
    give(file, ["ann", "ben"])
    (_, a), (_, b) = read(file).values()
    assert a != b


@pytest.mark.parametrize("text, said", [("ann\n", "Line 1"), ("a/b x y\n", "person's name")])
def test_a_file_that_is_no_users_file_is_a_sentence(tmp_path, text, said):
    file = tmp_path / "class.txt"
    file.write_text(text)
    with pytest.raises(BadInput, match=said):
        checker(file)


def test_a_file_that_is_missing_or_empty_says_how_to_make_one(tmp_path):
    (tmp_path / "empty.txt").touch()
    for name in ("none.txt", "empty.txt"):
        with pytest.raises(BadInput, match=f"ftlab users {name} NAME"):
            checker(tmp_path / name)


@pytest.mark.parametrize("name", ["", "../ann", "ann ben", "-x"])
def test_a_name_that_could_not_name_a_home_gets_no_password(tmp_path, name):
    with pytest.raises(BadInput, match="cannot be a person's name"):
        give(tmp_path / "class.txt", [name])
    assert not (tmp_path / "class.txt").exists()
