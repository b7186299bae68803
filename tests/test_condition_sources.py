"""Conditions as people have them on disk become the right arrays, whatever the form."""

import json
import os

import condition_folders as forms
import image_kinds
import numpy as np
import pytest
from condition_folders import CAPTIONS, COUNT, FOLDER, HEAD, TEST, hole, ids, levels, put
from PIL import Image

from genbench.condition import ConditionSpec
from genbench.data.entries import read_entries
from genbench.data.preparation import prepare
from genbench.data.source import Place
from genbench.data.tuning import prepare_tuning
from genbench.data.words import read
from genbench.support.errors import BadInput

TRAIN = COUNT - TEST


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "cache"))


def prepared(root, text, tune=False):
    put(root / "mine.toml", text)
    entry = read_entries(root / "mine.toml")["mine"]
    return (prepare_tuning if tune else prepare)(entry, root, offline=True)


def both(data, kind, key=None):
    """The rows of a condition, training and test images one after another."""
    return np.concatenate([part.conditions[kind][key or kind] for part in (data.train, data.test)])


def check_images(data, order=range(COUNT)):
    found = np.concatenate([data.train.images, data.test.images])
    assert np.array_equal(found[:, 0], np.stack([levels(number) for number in order]))
    assert len(data.test) == TEST


TEXTS = {"json lines": forms.json_lines, "table": forms.table, "tar": forms.tar}


@pytest.mark.parametrize("form", TEXTS)
def test_captions_go_with_their_images(tmp_path, form):
    data = prepared(tmp_path, TEXTS[form](tmp_path))
    check_images(data)
    assert read(both(data, "text", "captions")) == list(CAPTIONS)
    assert data.conditions == (ConditionSpec("text", (32,), 4096),)
    assert data.words == (",", "a", "cat", "dog", "dogs", "red", "running", "two")
    assert data.train.conditions["text"]["text"][1, :3].tolist() == [9, 6, 0]
    others = {"tar": ["left out 8 members that are not used: 4 .json, 4 .cls; .cls is not used, since num_classes is"]}
    told = [remark for remark in data.remarks if "left out" in remark]
    assert len(told) == 2 * len(others.get(form, ())) and all(told[0].startswith(each) for each in others.get(form, ()))


@pytest.mark.parametrize("form", [forms.sidecars, forms.coco])
def test_one_of_several_captions_is_taken_by_the_seed(tmp_path, form):
    text = form(tmp_path)
    if form is forms.coco:
        whole = json.loads((tmp_path / "captions_train2017.json").read_text())
        whole["annotations"][COUNT:] = [
            {**each, "caption": "the same, said again"} for each in whole["annotations"][COUNT:]
        ]
        put(tmp_path / "captions_train2017.json", json.dumps(whole))
    taken = {}
    for seed in range(8):
        data = prepared(tmp_path, text.replace('kind = "text"', f'kind = "text", seed = {seed}'))
        check_images(data)
        found = read(both(data, "text", "captions"))
        assert all(each in (own, "the same, said again") for each, own in zip(found, CAPTIONS))
        taken[seed] = tuple(found)
    assert len(set(taken.values())) > 4
    assert read(both(prepared(tmp_path, text), "text", "captions")) == list(taken[0])
    assert not any("left out" in remark for remark in data.remarks)


def test_length_and_words_are_options(tmp_path):
    text = forms.json_lines(tmp_path).replace('kind = "text"', 'kind = "text", length = 2, words = 4')
    data = prepared(tmp_path, text)
    assert data.conditions == (ConditionSpec("text", (2,), 4),) and data.words == ("a", "cat")


def test_one_file_has_the_captions_of_both_folders_or_each_its_own(tmp_path):
    for folder, numbers in (("images/train", range(TRAIN)), ("images/test", range(TRAIN, COUNT))):
        lines = []
        for place, number in enumerate(numbers):
            put(tmp_path / folder / f"{place}.png", levels(number))
            lines.append(json.dumps({"file_name": f"{place}.png", "text": CAPTIONS[number]}))
        put(tmp_path / folder / "metadata.jsonl", "\n".join(lines))
    rows = ["file_name,text"]
    rows += [f'train/{n}.png,"{CAPTIONS[n]}"' for n in range(TRAIN)]
    rows += [f'test/{n - TRAIN}.png,"{CAPTIONS[n]}"' for n in range(TRAIN, COUNT)]
    put(tmp_path / "images/all.csv", "\n".join(rows))
    head = FOLDER.replace('path = "images"', 'path = "images/train"\ntest_path = "images/test"')
    own = 'file = "images/train/metadata.jsonl", test_file = "images/test/metadata.jsonl"'
    for files in (own, 'file = "images/all.csv"'):
        data = prepared(tmp_path, f'{head}condition = {{ kind = "text", {files} }}\n')
        check_images(data)
        assert read(both(data, "text", "captions")) == list(CAPTIONS)


def test_names_may_be_relative_to_the_images_and_a_list_is_several_captions(tmp_path):
    forms.images(tmp_path)
    lines = [json.dumps({"image": f"{n:03}.png", "said": ["", each]}) for n, each in enumerate(CAPTIONS)]
    put(tmp_path / "about/them.jsonl", "\n".join(lines))
    text = f'{FOLDER}condition = {{ kind = "text", file = "about/them.jsonl", column = "said", names = "image" }}\n'
    assert read(both(prepared(tmp_path, text), "text", "captions")) == list(CAPTIONS)


def test_captions_keep_their_letters(tmp_path):
    text = forms.json_lines(tmp_path)
    lines = (tmp_path / "images/metadata.jsonl").read_text().splitlines()
    lines[0] = json.dumps({"file_name": "000.png", "text": '  café\u2028日本, "quoted"  '}, ensure_ascii=False)
    put(tmp_path / "images/metadata.jsonl", "\ufeff" + "\r\n".join(lines) + "\n\n")
    assert read(prepared(tmp_path, text).train.conditions["text"]["captions"])[0] == 'café\u2028日本, "quoted"'


# Pictures beside images


def test_training_ids_with_an_unknown_one(tmp_path):
    data = prepared(tmp_path, forms.cityscapes(tmp_path))
    order = [0, 2, 1, 3, 4, 5]  # by city
    check_images(data, order)
    found = both(data, "map")
    assert data.conditions == (ConditionSpec("map", (8, 8), 3),) and found.dtype == np.uint8
    assert np.array_equal(found, np.stack([ids(number, 3) for number in order]))  # 255 became 3, the unknown
    assert not any("without an image" in remark for remark in data.remarks)


def test_classes_from_one_with_zero_for_the_rest(tmp_path):
    data = prepared(tmp_path, forms.ade(tmp_path))
    wanted = np.stack([ids(number, 4) for number in range(COUNT)])
    assert np.array_equal(both(data, "map"), np.where(wanted == 0, 4, wanted.astype(int) - 1))


@pytest.mark.parametrize("mode", ["P", "I;16", "1", "four bits"])
def test_maps_of_other_modes_have_the_same_numbers(tmp_path, mode):
    text = forms.ade(tmp_path).replace('zero = "ignore"', 'zero = "class"').replace("classes = 4", "classes = 400")
    highest = {"1": 1, "I;16": 399}.get(mode, 4)
    found = np.random.default_rng(0).integers(0, highest + 1, (8, 8))
    for number in range(COUNT):
        file = tmp_path / f"annotations/{number:03}.png"
        if mode == "four bits":
            Image.fromarray(found.astype(np.uint8)).save(file, bits=4)
            assert file.read_bytes()[24] == 4
        elif mode == "P":
            picture = Image.fromarray(found.astype(np.uint8), "P")
            picture.putpalette(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).tobytes())
            picture.save(file)
        else:
            Image.fromarray(found.astype(np.uint16) if mode == "I;16" else found.astype(bool)).save(file)
    maps = both(prepared(tmp_path, text), "map")
    assert maps.dtype == np.uint16 and (maps == found).all()


def test_a_map_is_cropped_and_resized_with_its_image_and_gets_no_new_ids(tmp_path):
    wide = np.zeros((24, 40), np.uint8)
    wide[:, 12:20], wide[:, 20:28], wide[:4], wide[20:] = 2, 4, 3, 3
    for number in range(COUNT):
        put(tmp_path / f"images/{number:03}.png", wide * 60)
        put(tmp_path / f"annotations/{number:03}.png", wide)
    text = forms.ade(tmp_path / "other").replace('zero = "ignore"', "ignore = 9").replace("= 4", "= 5")
    data = prepared(tmp_path, f"{text}crop = 16\n")
    wanted = np.repeat([[2, 2, 2, 2, 4, 4, 4, 4]], 8, 0)
    assert (both(data, "map") == wanted).all()
    assert np.abs(data.train.images[0, 0].astype(int) - 60 * wanted).max() < 30
    data = prepared(tmp_path, text)  # the middle 24 of 40 columns, of which a pixel is three
    maps = both(data, "map")
    assert set(np.unique(maps)) <= {0, 2, 3, 4} and (maps[:, [0, -1]] == 3).all() and (maps[:, 4, 4] == 4).all()


@pytest.mark.parametrize("white", [True, False])
def test_masks_beside_images_are_holes(tmp_path, white):
    text = forms.lama(tmp_path)
    if not white:
        text = text.replace('"white"', '"black"')
        for number in range(COUNT):
            put(tmp_path / f"images/{number:03}_mask001.png", (~hole(number)).astype(np.uint8))
    data = prepared(tmp_path, text)
    check_images(data)
    found = both(data, "hole")
    assert found.dtype == bool and np.array_equal(found[:, 0], np.stack([hole(number) for number in range(COUNT)]))


def test_small_images_are_taken_as_they_are(tmp_path):
    data = prepared(tmp_path, forms.low_resolution(tmp_path))
    check_images(data)
    assert data.conditions == (ConditionSpec("image", (1, 2, 2)),)
    assert np.array_equal(both(data, "image")[:, 0], np.stack([levels(50 + n, 2) for n in range(COUNT)]))


def test_a_crop_of_a_large_image_is_that_of_its_small_one(tmp_path):
    """28 pixels less a crop of 8 begin at 10, which is no multiple of 4: both begin at 8, or 2 of the small one."""
    text = forms.low_resolution(tmp_path)
    for number in range(COUNT):
        put(tmp_path / f"images/{number:03}.png", levels(number, 28))
        put(tmp_path / f"LR_bicubic/X4/{number:03}x4.png", levels(50 + number, 7))
    data = prepared(tmp_path, f"{text}crop = 8\n")
    assert np.array_equal(data.train.images[1, 0], levels(1, 28)[8:16, 8:16])
    assert np.array_equal(both(data, "image")[1, 0], levels(51, 7)[2:4, 2:4])


def test_files_without_an_image_are_told(tmp_path):
    text = forms.low_resolution(tmp_path)
    put(tmp_path / "LR_bicubic/X4/999x4.png", levels(0))
    assert "left out 1 file *x4.png without an image, such as 999x4.png" in prepared(tmp_path, text).remarks


# Tar files


def test_samples_of_tar_files_with_labels_and_columns(tmp_path):
    text = forms.tar(tmp_path).replace('kind = "text"', 'kind = "text", column = "caption"')
    data = prepared(tmp_path, f"{text}num_classes = 2\n".replace("shards/*.tar", "shards"))
    check_images(data)
    assert read(both(data, "text", "captions")) == [each.upper() for each in CAPTIONS]
    assert np.concatenate([data.train.labels, data.test.labels]).tolist() == [0, 1, 0, 1, 0, 1]


def test_tar_files_without_captions_and_with_a_split_of_their_own(tmp_path):
    forms.tar(tmp_path)
    head = f'{HEAD}source = "tar"\npath = ["shards/0001.tar", "shards/0000.tar"]\ntest_path = "shards/0002.tar"\n'
    data = prepared(tmp_path, head)
    check_images(data, [2, 3, 0, 1, 4, 5])
    assert not data.conditions


def test_an_archive_is_never_unpacked(tmp_path):
    text = forms.tar(tmp_path)
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    prepared(tmp_path, text)
    after = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    assert after - before == {tmp_path / "mine.toml"}


# The hub


HUB = '[mine]\nshape = [1, 8, 8]\nsource = "huggingface"\npath = "hub"\n'


@pytest.mark.parametrize("kind", ["text", "map", "hole", "image"])
def test_a_column_of_the_hub(tmp_path, monkeypatch, kind):
    keys = {"map": ", classes = 4", "hole": ', hole = "white"', "image": ", factor = 4"}.get(kind, "")
    values = {
        "text": ["a cat", ["two dogs", "two dogs"], "a dog"],
        "map": [ids(number, 3) for number in range(3)],
        "hole": [hole(number) for number in range(3)],
        "image": [levels(50 + number, 2) for number in range(3)],
    }[kind]
    cells = values if kind == "text" else [image_kinds.cell(forms.png(value)) for value in values]
    rows = [{"image": image_kinds.cell(forms.png(levels(n))), "about": each} for n, each in enumerate(cells)]
    features = {"image": "image", "about": "string" if kind == "text" else "image"}
    image_kinds.library(monkeypatch, image_kinds.Rows(rows, features))
    data = prepared(tmp_path, f'{HUB}condition = {{ kind = "{kind}", column = "about"{keys} }}\n')
    if kind == "text":
        assert read(data.test.conditions["text"]["captions"]) == ["a cat", "two dogs", "a dog"]
    else:
        assert np.array_equal(data.test.conditions[kind][kind].reshape(3, -1), np.stack(values).reshape(3, -1))


def test_a_wrong_column_of_the_hub(tmp_path, monkeypatch):
    rows = [{"image": image_kinds.cell(forms.png(levels(n))), "about": "a cat"} for n in range(3)]
    image_kinds.library(monkeypatch, image_kinds.Rows(rows, {"image": "image", "about": "string"}))
    for keys, told in {
        'kind = "text", column = "other"': "hub: no column 'other'",
        'kind = "map", column = "about", classes = 3': "column 'about' has no images, but string",
    }.items():
        with pytest.raises(BadInput, match=told):
            prepared(tmp_path, f"{HUB}condition = {{ {keys} }}\n")


# Changes, digests and tuning

ALL = {
    form.__name__: form
    for form in (
        forms.json_lines, forms.table, forms.sidecars, forms.coco, forms.cityscapes, forms.ade, forms.lama,
        forms.low_resolution, forms.tar,
    )
}  # fmt: skip
CHANGED = {
    "json_lines": "images/metadata.jsonl", "table": "captions.csv", "sidecars": "images/000.txt",
    "coco": "captions_train2017.json", "cityscapes": "gtFine/val/ulm/ulm_004_gtFine_labelTrainIds.png",
    "ade": "annotations/000.png", "lama": "images/000_mask001.png", "low_resolution": "LR_bicubic/X4/000x4.png",
    "tar": "shards/0001.tar",
}  # fmt: skip


@pytest.mark.parametrize("form", ALL)
def test_a_changed_file_is_prepared_anew_and_the_digest_covers_it(tmp_path, form):
    text = ALL[form](tmp_path)
    first, file = prepared(tmp_path, text), tmp_path / CHANGED[form]
    assert prepared(tmp_path, text).folder == first.folder
    content = file.read_bytes()
    if file.suffix == ".png":
        changed = np.array(Image.open(file))
        changed[0, 0] = {"low_resolution": 99, "lama": 255}.get(form, 1 if changed[0, 0] != 1 else 2)
        put(file, changed)
    else:
        file.write_bytes(content.replace(b"cat", b"owl").replace(b"dog", b"owl").replace(b"same", b"owl"))
    os.utime(file, (1, 1))
    second = prepared(tmp_path, text)
    assert second.digest != first.digest and second.folder != first.folder
    file.write_bytes(content)
    third = prepared(tmp_path, text)
    assert third.digest == first.digest and third.folder != first.folder


def test_the_same_content_has_the_same_digest_whatever_its_form(tmp_path):
    digests = set()
    for form in (forms.json_lines, forms.table, forms.tar):
        digests.add(prepared(tmp_path / form.__name__, form(tmp_path / form.__name__)).digest)
    assert len(digests) == 1


@pytest.mark.parametrize("form", ["json_lines", "ade", "lama", "low_resolution", "tar"])
def test_held_out_images_keep_their_conditions(tmp_path, form, monkeypatch):
    monkeypatch.setattr(forms, "COUNT", 30)
    monkeypatch.setattr(forms, "CAPTIONS", CAPTIONS * 5)
    text = ALL[form](tmp_path) if form != "tar" else many_samples(tmp_path)
    whole, tuning = prepared(tmp_path, text), prepared(tmp_path, text, tune=True)
    (kind,) = whole.train.conditions
    key = "captions" if kind == "text" else kind
    own = {
        image.tobytes(): row.tobytes().rstrip(b"\0")
        for image, row in zip(whole.train.images, whole.train.conditions[kind][key])
    }
    assert len(tuning.test) >= 2
    for part in (tuning.train, tuning.test):
        for image, row in zip(part.images, part.conditions[kind][key]):
            assert own[image.tobytes()] == row.tobytes().rstrip(b"\0")


def many_samples(root):
    forms.shard(root / "shards/0.tar", [member for number in range(30) for member in forms.sample(number)])
    return f'{HEAD}source = "tar"\npath = "shards"\ncondition = {{ kind = "text" }}\n'


def test_an_entry_without_a_condition_is_prepared_as_before(tmp_path):
    """Of what a folder's images depend on, nothing has been added: the names and times of its files are one digest."""
    forms.images(tmp_path)
    put(tmp_path / "mine.toml", FOLDER)
    entry = read_entries(tmp_path / "mine.toml")["mine"]
    assert len(entry.source.state(Place(tmp_path, tmp_path))) == 1
    assert "condition" not in entry.source.model_dump(mode="json")


# From files to samples


@pytest.mark.slow
@pytest.mark.parametrize("form", ["json_lines", "cityscapes", "lama", "tar"])
def test_a_model_is_trained_on_it_from_the_command_line(genbench, tmp_path, form, monkeypatch):
    monkeypatch.setattr(forms, "COUNT", 40)
    monkeypatch.setattr(forms, "TEST", 12)
    monkeypatch.setattr(forms, "CAPTIONS", (CAPTIONS * 7)[:40])
    text = many_samples(tmp_path) if form == "tar" else ALL[form](tmp_path)
    put(tmp_path / "mine.toml", f'{text}extractors = ["digits-classifier-v1"]\n')
    kind = {"cityscapes": "map", "lama": "hole"}.get(form, "text")
    result = genbench(
        "run", "-m", "ddpm", "--set", "ddpm.preset=tiny", "-d", "mine", "--datasets", "mine.toml", "--condition", kind,
        "--budget", "5steps", "--samples", "20", "--likelihood-images", "4", "--device", "cpu",
    )  # fmt: skip
    assert result.code == 0, result.err
    (run,) = (tmp_path / "runs").glob("ddpm-mine-*")
    record = json.loads((run / "record.json").read_text())
    assert record["job"]["condition"]["kind"] == kind
    samples = np.load(run / "samples.npy")
    assert samples.shape == (20, 1, 8, 8) and len(np.unique(samples)) > 1
