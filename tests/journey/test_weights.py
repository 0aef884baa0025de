"""Weights of the field through the command line: in, used, trained on, out, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import regard
from regard.interop import sentencepiece
from regard.interop.hf import read_tensors

DATA = Path(__file__).parents[3] / "shared" / "data"
MADE = DATA / "ckpt_made_hf"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")


def taken(call, path, run, what="hf"):
    done = call("import", what, path, "-o", run)
    assert done.returncode == 0, done.stderr
    return done.stdout


def near(made, expected, atol):
    torch.testing.assert_close(made, torch.from_numpy(expected), rtol=0, atol=atol)


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "llama_gqa", "bert_mlm", "marian"])
def test_stored_outputs_and_the_way_back(call, name):
    said = taken(call, MADE / name, "run")
    assert "there are no tokenizer files: the run reads and writes ids alone" in said
    held = np.load(MADE / name / "io.npz")
    ids = torch.from_numpy(held["in_input_ids"]).long()
    model = regard.load("run").model
    if name == "marian":
        given = torch.from_numpy(held["in_decoder_input_ids"]).long()
        real = torch.from_numpy(held["in_attention_mask"]).bool()
        near(model(ids, given, source_mask=real), held["out_logits"], 1e-5)
    elif name == "bert_mlm":
        real = held["in_attention_mask"].astype(bool)
        segments = torch.from_numpy(held["in_token_type_ids"]).long()
        made = model(ids, mask=torch.from_numpy(real), segments=segments)
        near(made[real], held["out_logits"][real], 1e-5)
    else:
        near(model(ids), held["out_logits"], 1e-5)
    assert call("export", "hf", "run", "-o", "back").returncode == 0
    before, after = read_tensors(MADE / name), read_tensors(Path("back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    taken(call, "back", "again")
    same = (Path("run/recipe.toml").read_text(), Path("again/recipe.toml").read_text())
    assert same[0] == same[1]
    assert Path("run/tokenizer.json").read_text() == Path("again/tokenizer.json").read_text()
    assert (call("cost", "run").returncode, call("runs", ".").returncode) == (0, 0)
    assert "Nothing was trained here" in Path("run/README.md").read_text()


@torch.no_grad()
def test_tiny_checkpoints(call):
    taken(call, DATA / "ckpt_tiny_gpt2_hf", "gpt2")
    held = np.load(DATA / "ckpt_tiny_gpt2_hf" / "reference.npz")
    logits = regard.load("gpt2").model(torch.from_numpy(held["input_ids"]).long())
    near(logits[..., :512], held["logits_first512"], 1e-6)
    said = taken(call, DATA / "ckpt_tiny_bert_hf", "bert")
    assert "tokenizer: tokenizer.json" in said
    assert "a run of states" in said
    held = np.load(DATA / "ckpt_tiny_bert_hf" / "reference.npz")
    inputs = [torch.from_numpy(held[key]).long() for key in ("input_ids", "token_type_ids")]
    real = held["attention_mask"].astype(bool)
    reader = regard.load("bert")
    made = reader.model(inputs[0], mask=torch.from_numpy(real), segments=inputs[1])
    near(made[real], held["last_hidden"][real], 1e-5)
    assert (reader.tokenizer.start_id, reader.tokenizer.end_id) == (2, 3)
    done = call("train", "bert", "--run", "more")
    assert done.returncode == 2
    assert "a model without a head gives states" in done.stderr
    done = call("predict", "bert", "a word")
    assert done.returncode == 2
    assert "no head" in done.stderr
    assert call("look", "bert", "a word", "-o", "bert.html").returncode == 0


@pytest.mark.parametrize("path", ["", "stories260K.bin"])
def test_the_story_of_llama2_c(call, path):
    said = taken(call, DATA / "ckpt_stories260k" / path, "run", "llama2c")
    assert "tokenizer: tok512.bin" in said
    expected = json.loads((DATA / "ckpt_stories260k" / "expected_greedy.json").read_text())
    done = call("generate", "run", "--max-new-tokens", "200")
    assert done.stdout == expected["text"] + "\n"
    start = expected["text"][:40]
    assert (
        call("generate", "run", start, "--max-new-tokens", "100").stdout[:250]
        == (expected["text"][:250])
    )
    beam = call("generate", "run", start, "--beam", "2", "--max-new-tokens", "5").stdout
    assert beam.startswith(start)
    assert call("export", "hf", "run", "-o", "back").returncode == 0
    ours, theirs = (read_tensors(path) for path in (Path("back"), DATA / "ckpt_tiny_llama_hf"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_story_in_the_fields_form(call):
    """Without tokenizer files; the same ids, which the other form's tokenizer reads."""
    taken(call, DATA / "ckpt_tiny_llama_hf", "run")
    done = call("generate", "run", "Once")
    assert done.returncode == 2
    assert "imported without a tokenizer: it reads and writes ids alone" in done.stderr
    taken(call, DATA / "ckpt_stories260k", "other", "llama2c")
    shutil.copy("other/tokenizer.json", "run/tokenizer.json")
    expected = json.loads((DATA / "ckpt_stories260k" / "expected_greedy.json").read_text())
    assert call("generate", "run", "--max-new-tokens", "200").stdout == expected["text"] + "\n"


@pytest.fixture
def gpt2(tmp_path):
    """The tiny GPT-2 with its own vocabulary beside it."""
    shutil.copytree(DATA / "ckpt_tiny_gpt2_hf", tmp_path / "gpt2")
    for name, there in (("vocab.json", "encoder.json"), ("merges.txt", "vocab.bpe")):
        shutil.copy(DATA / "tok_reference" / "gpt2" / there, tmp_path / "gpt2" / name)
    return tmp_path / "gpt2"


def test_text_and_training_on(call, gpt2):
    assert "tokenizer: vocab.json and merges.txt" in taken(call, gpt2, "run")
    done = call("generate", "run", "Hello, world", "--max-new-tokens", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Hello, world")
    Path("text.txt").write_text("A line of text, and another one.\n" * 400)
    settings = ["model.start_from=run", "data.train.file=text.txt", "training.max_steps=2"]
    settings += ["decoding.strategy=greedy", "model.layer.dropout=0.0", "training.batch_size=1"]
    Path("more.toml").write_text(
        'task = "language-modeling"\n[objective]\nkind = "next_token"\nlabel_smoothing = 0.0\n'
        "[training]\nmax_steps = 2\n"
    )
    done = call("train", "more.toml", *settings, "--run", "more")
    assert done.returncode == 0, done.stderr
    assert call("generate", "more", "Hello", "--max-new-tokens", "2").returncode == 0
    done = call("export", "hf", "more", "-o", "back")
    assert done.returncode == 0, done.stderr
    taken(call, "back", "again")
    prompt = ["Hello", "--max-new-tokens", "5", "--strategy", "greedy"]
    assert call("generate", "again", *prompt).stdout == call("generate", "more", *prompt).stdout
    ours, theirs = (regard.load(one).tokenizer for one in ("run", "again"))
    assert ours.encode("A line é <|endoftext|>") == theirs.encode("A line é <|endoftext|>")
    assert (ours.end_id, ours.start_id) == (theirs.end_id, theirs.start_id)


def test_how_it_generates_comes_too(call):
    shutil.copytree(MADE / "gpt2", "theirs")
    path = Path("theirs/generation_config.json")
    path.write_text(json.dumps({"repetition_penalty": 1.3, "no_repeat_ngram_size": 3}))
    assert "not taken over: no_repeat_ngram_size = 3" in taken(call, "theirs", "run")
    assert "repetition_penalty = 1.3" in Path("run/recipe.toml").read_text()
    path.write_text(json.dumps({"num_beams": 2, "early_stopping": "sometimes"}))
    done = call("import", "hf", "theirs", "-o", "other")
    assert done.returncode == 2
    assert "early_stopping = 'sometimes' is not supported" in done.stderr


def test_translation(call):
    """Marian's two segmentations over one vocabulary."""
    shutil.copytree(MADE / "marian", "marian")
    model = DATA / "tok_reference" / "sentencepiece_en1000" / "test_model.model"
    for side in ("source", "target"):
        shutil.copy(model, f"marian/{side}.spm")
    pieces = [one.text for one in sentencepiece.read_model(model).pieces[3:96]]
    entries = ["</s>", "<unk>", *pieces, "<pad>"]
    Path("marian/vocab.json").write_text(json.dumps({one: i for i, one in enumerate(entries)}))
    said = taken(call, "marian", "run")
    assert "source.spm, target.spm and vocab.json" in said
    done = call("translate", "run", "the one of", "in", "--max-length", "6")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    translator = regard.load("run")
    assert translator.tokenizer.start_id == translator.tokenizer.pad_id == 95
    done = call("export", "hf", "run", "-o", "back")
    assert "copy those that came with the model" in done.stdout
    Path("marian/source.spm").write_bytes(b"\x0a\xff")
    done = call("import", "hf", "marian", "-o", "other")
    assert done.returncode == 2
    assert "source.spm: is no SentencePiece model" in done.stderr


def test_shards(call, gpt2):
    from safetensors.torch import save_file

    whole = {name: tensor.bfloat16() for name, tensor in read_tensors(gpt2).items()}
    (gpt2 / "model.safetensors").unlink()
    names = sorted(whole)
    places = {name: f"model-{i % 2 + 1}.safetensors" for i, name in enumerate(names)}
    for file in set(places.values()):
        save_file({n: whole[n] for n in names if places[n] == file}, gpt2 / file)
    index = gpt2 / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    taken(call, gpt2, "run")
    assert regard.load("run").model.embedding.weight.dtype == torch.float32
    assert call("export", "hf", "run", "-o", "back").returncode == 0
    back = read_tensors(Path("back"))
    assert all(torch.equal(back[name], whole[name]) for name in whole)
    assert {tensor.dtype for tensor in back.values()} == {torch.bfloat16}
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    done = call("import", "hf", gpt2, "-o", "other")
    assert done.returncode == 2
    assert "names a file elsewhere" in done.stderr


HEADS = {
    "ForSequenceClassification": ("classify", "classification"),
    "ForTokenClassification": ("tag", "tagging"),
    "ForMaskedLM": ("fill", "masked-language-modeling"),
    "ForQuestionAnswering": ("answer", "question-answering"),
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("ending", HEADS)
def test_heads_say_the_task(call, ending):
    """Each is used by its verb at once; names of classes come in and go out."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    labels = {0: "O", 1: "B-x"} if ending.endswith("Classification") else None
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3}
    config = transformers.BertConfig(**sizes, intermediate_size=8, id2label=labels)
    getattr(transformers, f"Bert{ending}")(config).save_pretrained("theirs")
    shutil.copy(DATA / "tok_reference" / "bert_uncased" / "vocab.txt", "theirs")
    verb, task = HEADS[ending]
    assert f"a run of {task}" in taken(call, "theirs", "run")
    assert "max_length = 512" in Path("run/recipe.toml").read_text().split("[tokenizer]")[0]
    predictor = regard.load("run")
    if verb == "answer":
        assert predictor.answer("who is there?", "John is there.") is not None
    elif verb == "fill":
        filled = [str(predictor.fill(f"hello {mask} there")) for mask in ("[MASK]", "<mask>")]
        assert filled[0] == filled[1]
    else:
        assert set(str(getattr(predictor, verb)("hello")).split("/")[-1:]) <= {"O", "B-x"}
    assert call("export", "hf", "run", "-o", "back").returncode == 0
    before, after = read_tensors(Path("theirs")), read_tensors(Path("back"))
    assert all(torch.equal(before[key], after[key]) for key in before)
    if labels:
        assert json.loads(Path("back/config.json").read_text())["id2label"]["1"] == "B-x"


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
            ({"brand_new": 1}, "these settings are not known: brand_new"),
            ({"n_layer": 3}, "decoder.layers.2."),
            ({"vocab_size": 96, "n_embd": "x"}, "config.json: a setting cannot be"),
            ({"n_positions": [1]}, "config.json: a setting cannot be"),
            ({"model_type": "mamba"}, "model_type = 'mamba' is not supported"),
        ],
    )
    def test_settings(self, call, changes, words):
        shutil.copytree(MADE / "gpt2", "theirs")
        given = json.loads(Path("theirs/config.json").read_text())
        Path("theirs/config.json").write_text(json.dumps({**given, **changes}))
        done = call("import", "hf", "theirs", "-o", "run")
        assert done.returncode == 2
        assert words in done.stderr
        assert [one.name for one in Path().iterdir()] == ["theirs"]

    def test_files(self, call):
        shutil.copytree(MADE / "gpt2", "theirs")
        Path("theirs/model.safetensors").rename("theirs/pytorch_model.bin")
        done = call("import", "hf", "theirs", "-o", "run")
        assert done.returncode == 2
        assert "a pickle, which may run any code" in done.stderr
        assert "safe_serialization=True" in done.stderr
        Path("theirs/config.json").unlink()
        assert "there is no config.json" in call("import", "hf", "theirs", "-o", "run").stderr
        assert "is no directory" in call("import", "hf", "nowhere", "-o", "run").stderr
        done = call("import", "hf", MADE / "gpt2", "-o", "theirs")
        assert done.returncode == 2
        assert "exists already" in done.stderr
        Path("theirs/pytorch_model.bin").unlink()
        done = call("import", "llama2c", "theirs", "-o", "run")
        assert done.returncode == 2
        assert "one model is wanted here" in done.stderr
        assert "this is no run" in call("export", "hf", "theirs", "-o", "back").stderr
        assert [one.name for one in Path().iterdir()] == ["theirs"]

    def test_a_model_that_no_format_can_say(self, call):
        taken(call, MADE / "gpt2", "run")
        path = Path("run/recipe.toml")
        path.write_text(path.read_text().replace('norm_placement = "pre"', 'norm_placement="post"'))
        done = call("export", "hf", "run", "-o", "back")
        assert done.returncode == 2
        assert "no format of the field can say this gpt" in done.stderr
        assert not Path("back").exists()
