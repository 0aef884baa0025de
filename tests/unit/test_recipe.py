import contextlib
import dataclasses
import json
import os
from typing import ClassVar

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard import registry
from regard.decoding import DecodingSpec, LengthPenalty
from regard.errors import RecipeError
from regard.recipe import (
    Recipe,
    as_settings,
    builtin_names,
    carry_on,
    differences,
    json_schema,
    markdown_table,
    sections,
)
from regard.recipe import text as toml
from regard.recipe.checks import check_task, objective_options
from regard.recipe.faults import all_keys
from regard.training import (
    CheckpointSettings,
    EvaluationSettings,
    OptimizerSettings,
    ScheduleSettings,
    TrainingSettings,
)

BASE = """\
task = "translation"

[data]
train = { source = "train.en", target = "train.de" }

[model]
preset = "tiny"
layer.dropout = 0.3

[training]
max_steps = 5
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def complaint(path, *overrides, stage_two=False):
    """Where and what is said of a wrong recipe."""

    def use():
        found = Recipe.load(path, overrides)
        if stage_two:
            found.model_config_for({"vocab_size": 100})

    with pytest.raises(RecipeError) as caught:
        use()
    return str(caught.value)


class TestWrongKeys:
    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("accumlate = 2", "training.accumlate: unknown key"),
            ("accumlate = 2", "did you mean training.accumulate?"),
            ("seed = 1.5", "training.seed: must be a whole number, not 1.5"),
            ("seed = true", "must be a whole number, not True"),
            ("clip_norm = '1'", "training.clip_norm: must be a number, not '1'"),
            ("gradient_checkpointing = 1", "must be true or false, not 1"),
            ("precision = 'bflot16'", "did you mean 'bfloat16'?"),
            ("seed = -1", "training.seed: must be greater than or equal to 0, not -1"),
            ("schedule = 3", "training.schedule: must be a table of settings, not 3"),
            ("beam = 4", "did you mean decoding.beam?"),
            ("ema = 1.0", "training.ema: must be less than 1"),
            ("optimizer.betas = [0.9]", "training.optimizer.betas"),
            ("optimizer.betas = [0.9, 1.5]", "betas must be at least 0 and below 1"),
            ("optimizer.kind = 'adma'", "did you mean 'adam'?"),
            ("schedule.kind = 'cosin'", "did you mean 'cosine'?"),
        ],
    )
    def test_key_and_line_are_named(self, write, line, words):
        said = complaint(write(BASE + line + "\n"))
        assert words in said
        assert "mine.toml:12: " in said

    def test_several_at_once(self, write):
        said = complaint(write(BASE + 'seed = "x"\nmax_stepz = 3\n'))
        assert "2 keys are wrong" in said
        assert "mine.toml:12: training.seed" in said
        assert "mine.toml:13: training.max_stepz" in said

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("max_epochs = 2", "exactly one of max_steps and max_epochs"),
            ("batch_tokens = 9\nbatch_size = 2", "exclude each other"),
            ("batch_size = 2\nbatch_measure = 'padded'", "exclude each other"),
            ("checkpoint.every_steps = 9\ncheckpoint.every_epochs = 2", "exclude each other"),
            ("checkpoint.average = 9\ncheckpoint.keep = 2", "keep to be at least as large"),
            ("optimizer.weight_decay = 0.1", 'weight_decay is for kind = "adamw"'),
            ("optimizer = { kind = 'adafactor', eps = 1e-8 }", "eps has no meaning for adafactor"),
            ("schedule.kind = 'noam'\nschedule.peak = 0.1", "peak has no meaning"),
            ("schedule.kind = 'cosine'\nschedule.factor = 2.0", "factor has no meaning"),
            ("[evaluation]\nevery_steps = 9\nevery_epochs = 2", "exclude each other"),
            ("[data.valid]\nsource = 'a'\nfile = 'b'", "source and target and file and fields"),
            ("[decoding]\nmax_length = 'input*2'", 'a number, or "input+50"'),
        ],
    )
    def test_keys_that_contradict(self, write, line, words):
        assert words in complaint(write(BASE + line + "\n"))

    def test_a_file_may_come_later(self, write):
        recipe = Recipe.load(write(BASE + "[data.valid]\nfields = { source = 'a' }\n"))
        with pytest.raises(RecipeError, match="give file as well") as caught:
            recipe.data_of("valid")
        assert "data.valid" in str(caught.value)
        found = recipe.override({"data.valid.file": "b.tsv"}).data_of("valid")
        assert found.file.endswith("b.tsv")
        assert found.fields == {"source": "a"}

    def test_neither_horizon(self, write):
        assert "exactly one of max_steps" in complaint(write('task = "translation"\n[training]\n'))

    def test_missing_sections(self, write):
        said = complaint(write("[training]\nmax_steps = 1\n"))
        assert "task: this key is needed" in said
        assert "what the model is for" in said

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('task = "translatoin"', "did you mean 'translation'?"),
            ('task = "translation"\nmodel.family = "transfrmer"', "did you mean 'transformer'?"),
            ('task = "translation"\ntokenizer.kind = "bpee"', "did you mean 'bpe'?"),
        ],
    )
    def test_unknown_names_are_found_before_anything_is_imported(self, write, text, words):
        path = write(text + "\ntraining.max_steps = 1\n")
        said = complaint(path)
        assert words in said
        assert ".toml:" in said

    @pytest.mark.parametrize(
        ("data", "where", "words"),
        [
            (b'task = "translation\n', ":1", "is not TOML"),
            (b'task = "a"\n[training\n', ":2", "is not TOML"),
            (b'task = "a"\ntask = "b"\n', ":2", "is not TOML"),
            (b'# \xc3\xa4\ntask = "\xe4"\n', ":2", "is not UTF-8"),
        ],
    )
    def test_what_is_no_toml(self, tmp_path, data, where, words):
        path = tmp_path / "mine.toml"
        path.write_bytes(data)
        said = complaint(path)
        assert f"{path}{where}: " in said
        assert words in said

    def test_bom_and_crlf_are_read(self, tmp_path):
        path = tmp_path / "mine.toml"
        path.write_bytes(b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode())
        assert Recipe.load(path).training.max_steps == 5


class TestModel:
    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("layer.drpout = 0.1", "model.layer.drpout: unknown key"),
            ("layer.drpout = 0.1", "did you mean model.layer.dropout?"),
            ("encoder.layer.drpout = 0.1", "did you mean model.encoder.layer.dropout?"),
            ("d_modl = 1", "did you mean model.d_model?"),
            ("d_model = 'x'", "model.d_model: 'x' does not fit"),
            ("positions = 'rotry'", "model.positions: "),
            ("layer.norm.kind = 'layernrm'", "model.layer.norm.kind: 'layernrm'"),
            ("layer.norm.kind = 'layernrm'", "did you mean 'layernorm'?"),
            ("layer.feed_forward.kind = 'plian'", "model.layer.feed_forward.kind: 'plian'"),
            ("decoder.layer.feed_forward.activation = 'gelou'", "feed_forward.activation: "),
            ("layer.feed_forward.activation = 'gelou'", "did you mean 'gelu'?"),
            ("vocab_size = 4", "but the data need 100"),
            ("start_from = 'runs/x'", "preset and start_from exclude each other"),
        ],
    )
    def test_key_and_line_are_named(self, write, line, words):
        text = BASE.replace("layer.dropout = 0.3", line)
        said = complaint(write(text), stage_two=True)
        assert words in said
        assert "mine.toml:8: " in said or "mine.toml:7: model.preset" in said

    def test_unknown_preset(self, write):
        said = complaint(write(BASE.replace("tiny", "tny")), stage_two=True)
        assert "mine.toml:7: model.preset" in said
        assert "did you mean 'tiny'?" in said

    def test_precedence(self, write):
        path = write(BASE)
        config = Recipe.load(path).model_config_for({"vocab_size": 100})
        assert (config.d_model, config.encoder.num_layers) == (128, 4)  # the preset
        assert config.encoder.layer.dropout == 0.3  # the recipe
        assert config.embedding.dropout == 0.1  # the default
        config = Recipe.load(path, ["model.layer.dropout=0.2", "model.num_layers=2"])
        config = config.model_config_for({"vocab_size": 100})
        assert config.decoder.layer.dropout == 0.2
        assert config.encoder.num_layers == config.decoder.num_layers == 2

    def test_more_vocabulary_may_be_asked_for(self, write):
        recipe = Recipe.load(write(BASE), ["model.vocab_size=128"])
        assert recipe.model_config_for({"vocab_size": 100}).vocab_size == 128

    def test_resolved_says_everything_and_means_the_same(self, write):
        recipe = Recipe.load(write(BASE))
        resolved = recipe.resolved({"vocab_size": 100})
        assert resolved.model["encoder"]["layer"]["attention"]["num_heads"] == 4
        again = Recipe.load(write(resolved.dump(), "again.toml"), settled=True)
        assert again.settings() == resolved.settings()
        assert again.model_config_for() == recipe.model_config_for({"vocab_size": 100})

    def test_a_run_opens_where_its_start_is_gone(self, write, tmp_path):
        old = tmp_path / "old"
        old.mkdir()
        first = Recipe.load(write(BASE), ["model.d_model=64"]).resolved({"vocab_size": 100})
        (old / "recipe.toml").write_text(first.dump())
        text = BASE.replace('preset = "tiny"', 'start_from = "old"')
        second = Recipe.load(write(text)).resolved({"vocab_size": 100})
        assert second.model["d_model"] == 64
        assert second.model["start_from"] == str(old)
        (old / "recipe.toml").unlink()
        kept = Recipe.load(write(second.dump(), "kept.toml"), settled=True)
        assert kept.model_config_for().d_model == 64

    def test_start_from_nothing(self, write):
        text = BASE.replace('preset = "tiny"', 'start_from = "gone"')
        said = complaint(write(text), stage_two=True)
        assert "mine.toml:7: model.start_from: cannot start from there" in said

    def test_stage_two_before_data(self, write):
        recipe = Recipe.load(write(BASE.replace("layer.dropout", "layer.drpout")))
        with pytest.raises(RecipeError, match=r"model\.layer\.drpout"):
            recipe.check()

    @pytest.mark.parametrize(
        ("line", "key"),
        [
            ("objective.mask_rate = 0.1", "objective.mask_rate"),
            ("objective.label_smothing = 0.1", "objective.label_smothing"),
            ("data.train.sourc = 'x'", "data.train.sourc"),
            ("augmentation.flip = 0.5", "augmentation"),
            ('mixture = [{ train = { file = "a.tsv" } }]', "mixture"),
        ],
    )
    def test_a_key_that_nobody_reads_is_an_error(self, write, line, key):
        head = BASE.replace('[data]\ntrain = { source = "train.en", target = "train.de" }\n', "")
        recipe = Recipe.load(write(f"{line}\n{head}"))
        with pytest.raises(RecipeError) as caught:
            recipe.check()
        assert caught.value.where.endswith(f"mine.toml:1: {key}")

    @pytest.mark.parametrize(
        "task", [name for name in registry.names("tasks") if "head" in registry.task(name).stand_in]
    )
    @pytest.mark.parametrize("head", ['"pooled"', '{ kind = "pooled" }'])
    def test_a_head_that_answers_something_else_is_an_error(self, write, task, head):
        recipe = Recipe.load(
            write(f'model.head = {head}\ntask = "{task}"\ntraining.max_steps = 1\n')
        )
        with pytest.raises(RecipeError, match="is 'pooled', and the task") as caught:
            check_task(recipe)
        assert "mine.toml:1: model.head" in caught.value.where
        check_task(recipe.override({"model.head": registry.task(task).stand_in["head"]}))

    @pytest.mark.parametrize(
        ("task", "family", "fits"),
        [
            ("translation", "bert", False),
            ("translation", "t5", True),
            ("summarization", "transformer", True),
            ("language-modeling", "bert", False),  # it would see what it is to predict
            ("classification", "gpt", False),
            ("image-classification", "bert", False),
            ("tagging", "vit", False),
        ],
    )
    def test_a_family_of_another_form_is_an_error(self, write, task, family, fits):
        recipe = Recipe.load(
            write(f"model.family = '{family}'\ntask = '{task}'\ntraining.max_steps = 1\n")
        )
        with contextlib.nullcontext() if fits else pytest.raises(RecipeError) as caught:
            recipe.check()
        if not fits:
            assert "is no model for" in caught.value.what
            assert "mine.toml:1: model.family" in caught.value.where
            assert registry.task(task).family in caught.value.hint


class TestOverrides:
    def test_values_are_toml_or_text(self, write):
        recipe = Recipe.load(
            write(BASE),
            [
                "training.seed=7",
                "training.device=cuda:1",
                "training.optimizer.betas=[0.8, 0.9]",
                "decoding.length_penalty={kind='gnmt', alpha=0.6}",
                "training.gradient_checkpointing=true",
                "tokenizer.continuation=@@",
            ],
        )
        assert recipe.training.seed == 7
        assert recipe.training.device == "cuda:1"
        assert recipe.training.optimizer.betas == (0.8, 0.9)
        assert recipe.decoding.length_penalty.alpha == 0.6
        assert recipe.training.gradient_checkpointing is True
        assert recipe.tokenizer.continuation == "@@"

    def test_errors_name_the_command_line(self, write):
        said = complaint(write(BASE), "training.sed=1")
        assert "command line: training.sed: unknown key" in said

    @pytest.mark.parametrize("item", ["training", "=3", "training..seed=3"])
    def test_what_is_no_setting(self, write, item):
        assert "write key=value" in complaint(write(BASE), item)

    def test_an_alternative_takes_the_place_of_what_stands_below(self, write):
        recipe = Recipe.load(
            write(BASE + "batch_tokens = 99\nbatch_measure = 'padded'\n"),
            ["training.max_epochs=2", "training.batch_size=8", "data.train.file=all.tsv"],
        )
        assert (recipe.training.max_steps, recipe.training.max_epochs) == (None, 2)
        assert (recipe.training.batch_tokens, recipe.training.batch_size) == (None, 8)
        assert recipe.data.train.source is None

    def test_python_overrides(self, write, tmp_path):
        recipe = Recipe.load(
            write(BASE), {"training.seed": 3, "data": {"train": {"source": tmp_path / "x"}}}
        )
        assert recipe.training.seed == 3
        assert recipe.data.train.source == str(tmp_path / "x")
        assert recipe.data.train.target.endswith("train.de")

    def test_override_leaves_the_first_as_it_is(self, write):
        first = Recipe.load(write(BASE))
        second = first.override({"training.precision": "float32"})
        assert (first.training.precision, second.training.precision) == ("auto", "float32")

    @given(st.text(max_size=30))
    def test_any_text_is_some_value(self, text):
        toml.value(text)

    def test_a_value_holds_no_second_key(self):
        assert toml.value("1\nseed = 2") == "1\nseed = 2"
        assert toml.value("2024-01-01") == "2024-01-01"


class TestPaths:
    def test_a_file_is_relative_to_the_recipe_and_to_the_caller(self, write, tmp_path, monkeypatch):
        path = write(BASE)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        recipe = Recipe.load(os.path.relpath(path), ["data.train.target=my.de", "data.cache=c"])
        assert recipe.data.train.source == str(tmp_path / "train.en")
        assert recipe.data.train.target == str(elsewhere / "my.de")
        assert recipe.data.cache == str(elsewhere / "c")

    def test_missing_data(self, write):
        recipe = Recipe.load(write(BASE))
        assert recipe.data_of("train").settings().keys() == {"source", "target"}
        with pytest.raises(RecipeError, match=r"data\.valid\.source=FILE"):
            recipe.data_of("valid")

    def test_a_run_directory_is_its_recipe(self, write, tmp_path):
        write(BASE, "recipe.toml")
        assert Recipe.load(tmp_path).training.max_steps == 5

    @pytest.mark.parametrize(("name", "near"), [("demoo", "'demo'"), ("x/wmt14-bas.toml", "")])
    def test_no_such_recipe(self, name, near):
        said = complaint(name)
        assert "no such recipe" in said
        assert near in said


class TestDefaults:
    def test_those_that_follow_from_others(self, write):
        recipe = Recipe.load(write(BASE))
        assert recipe.training.batch_tokens == 4096
        assert recipe.evaluation.every_epochs == recipe.training.checkpoint.every_epochs == 1
        recipe = Recipe.load(write(BASE), ["evaluation.every_steps=7"])
        assert recipe.training.checkpoint.every_steps == 7
        assert recipe.training.checkpoint.every_epochs is None

    def test_every_key_is_described(self):
        schema = json_schema()
        bare = [
            f"{name}.{key}"
            for name, section in {"Recipe": schema, **schema["$defs"]}.items()
            for key, held in section.get("properties", {}).items()
            if not held.get("description")
        ]
        assert bare == []

    def test_decoding_keys_and_defaults_are_those_of_the_search(self):
        from regard.decoding import DecodingSpec

        recipe = Recipe.load("copy-digits", ["decoding.beam=5", "decoding.strategy=beam"])
        assert as_settings(recipe.decoding, DecodingSpec, where="decoding") == DecodingSpec()
        fields = set(DecodingSpec.__dataclass_fields__) | {"precision"}
        assert set(type(recipe.decoding).model_fields) == fields

    def test_training_keys_and_defaults_are_those_of_the_loop(self):
        from regard.training import TrainingSettings

        recipe = Recipe.load("demo")
        settings = as_settings(recipe.training, TrainingSettings, where="training")
        assert settings.max_steps == recipe.training.max_steps
        bare = Recipe.from_settings({"task": "translation", "training": {"max_steps": 1}})
        ours = {**bare.training.model_dump(), "evaluation": bare.evaluation.model_dump()}
        defaults = dataclasses.asdict(TrainingSettings(max_steps=1, batch_tokens=4096))
        for rhythm in (ours["checkpoint"], ours["evaluation"]):
            assert rhythm.pop("every_epochs") == 1  # None there, and taken as 1
        for key, value in recipe_leaves(ours):
            assert leaf(defaults, key) == value, key


def recipe_leaves(table, prefix=()):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from recipe_leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def leaf(table, key):
    for part in key:
        table = table[part]
    return table


class TestCompare:
    @pytest.fixture
    def stored(self, write):
        made = Recipe.load(write(BASE)).resolved({"vocab_size": 100})
        made = made.override({"training.precision": "float32", "training.threads": 2})
        return Recipe.load(write(made.dump(), "recipe.toml"), settled=True)

    def test_the_same_recipe_agrees_with_what_auto_chose(self, stored, write):
        assert differences(stored, Recipe.load(write(BASE))) == []

    @pytest.mark.parametrize(
        "change",
        [
            "training.max_steps=9",
            "training.max_epochs=9",
            "evaluation.every_steps=2",
            "evaluation.metric=bleu",
            "training.checkpoint.keep=9",
            "training.workers=2",
            "training.device=cpu",
            "data.train.source=/elsewhere/train.en",
            "data.cache=/elsewhere",
        ],
    )
    def test_what_may_change(self, stored, write, change):
        new = Recipe.load(write(BASE), [change])
        assert differences(stored, new) == []
        key, _, value = change.partition("=")
        resumed = carry_on(stored, new)
        held = resumed
        for part in key.split("."):
            held = getattr(held, part)
        assert str(held) == value
        assert resumed.settled
        assert resumed.training.precision == "float32"

    @pytest.mark.parametrize(
        ("change", "key"),
        [
            ("training.seed=2", "training.seed"),
            ("training.precision=bfloat16", "training.precision"),
            ("model.layer.dropout=0.1", "model.encoder.layer.dropout"),
            ("model.preset=base", "model.d_model"),
            ("training.batch_size=2", "training.batch_tokens"),
            ("data.max_length=9", "data.max_length"),
            ("objective.label_smoothing=0.0", "objective.label_smoothing"),
            ("training.optimizer.eps=1e-6", "training.optimizer.eps"),
        ],
    )
    def test_what_may_not(self, stored, write, change, key):
        new = Recipe.load(write(BASE), [change])
        assert key in differences(stored, new)
        with pytest.raises(RecipeError) as caught:
            carry_on(stored, new)
        assert key in str(caught.value)

    def test_horizons_take_each_others_place(self, stored, write):
        resumed = carry_on(stored, Recipe.load(write(BASE), ["training.max_epochs=3"]))
        assert (resumed.training.max_steps, resumed.training.max_epochs) == (None, 3)


class TestBuiltIn:
    @pytest.mark.parametrize("name", builtin_names())
    def test_it_loads_checks_and_reads_back(self, name):
        recipe = Recipe.load(name)
        recipe.check()
        again = Recipe.from_settings(toml.parse(recipe.dump(), name))
        assert again.settings() == recipe.settings()

    @pytest.mark.parametrize("name", builtin_names())
    def test_its_header_says_command_score_minutes_and_machine(self, name):
        from regard.recipe import builtin_text

        header = builtin_text(name).partition("\ntask")[0]
        for word in (f"regard train {name}" if "wmt" not in name else name, "# score", "# minutes"):
            assert word in header
        assert "# machine" in header

    @pytest.mark.parametrize("name", builtin_names())
    def test_the_schema_accepts_it(self, name):
        from regard.recipe import builtin_text

        jsonschema.validate(toml.parse(builtin_text(name), name), json_schema())

    def test_the_published_multi30k_setting(self):
        recipe = Recipe.load("multi30k-en-de-tokenized")
        config = recipe.model_config_for({"vocab_size": 9712})
        assert config.encoder.layer.dropout == config.embedding.dropout == 0.3
        assert config.encoder.layer.attention.dropout == 0
        assert recipe.training.accumulate * recipe.training.batch_tokens == 8192
        model = registry.family("transformer").model(config)
        assert sum(p.numel() for p in model.parameters()) == 2_568_192


KEYS = sorted({part for key in all_keys() for part in key.split(".")} | {"kind", "nonsense"})
VALUES = st.one_of(
    st.booleans(),
    st.integers(-2, 9),
    st.floats(allow_nan=False),
    st.sampled_from(["adam", "tiny", "translation", "noam", "input+5", ""]),
)
TABLES = st.recursive(
    VALUES,
    lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=3) | st.lists(inner),
    max_leaves=6,
)


class TestProperties:
    @given(st.dictionaries(st.sampled_from(KEYS), TABLES, max_size=4))
    def test_whatever_is_written_is_a_recipe_or_a_recipe_error(self, settings):
        with contextlib.suppress(RecipeError):
            Recipe.from_settings({"task": "translation", "training": {"max_steps": 1}} | settings)
        with contextlib.suppress(RecipeError):
            Recipe.from_settings(settings)

    @given(
        seed=st.integers(0, 2**31),
        rate=st.floats(1e-9, 1.0),
        label_smoothing=st.floats(0, 0.99),
        source=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
        batch=st.sampled_from(["batch_tokens", "batch_size"]),
    )
    def test_what_is_dumped_is_what_was_loaded(self, seed, rate, label_smoothing, source, batch):
        made = Recipe.from_settings(
            {
                "task": "translation",
                "data": {"train": {"source": source}},
                "objective": {"label_smoothing": label_smoothing},
                "training": {
                    "max_steps": 1,
                    "seed": seed,
                    batch: 7,
                    "schedule": {"peak": rate},
                },
            }
        )
        assert Recipe.from_settings(toml.parse(made.dump(), "x")).settings() == made.settings()


class TestSchema:
    def test_it_is_a_schema(self):
        jsonschema.Draft202012Validator.check_schema(json_schema())
        json.dumps(json_schema())

    @pytest.mark.parametrize(
        "line",
        [
            "training.sed = 1",
            "training.seed = 'x'",
            "model.layer.drpout = 0.1",
            "model.positions = 'nowhere'",
            "model.positions = { kind = 'learned', nonsense = 1 }",
            "tokenizer.joint = 1",
        ],
    )
    def test_it_refuses_what_load_refuses(self, line):
        settings = toml.parse(f"task = 'translation'\n{line}\n", "x")
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(settings, json_schema())

    def test_the_table_for_people_has_every_key(self):
        table = markdown_table(json_schema())
        for key in all_keys():
            if key not in ("model",):
                assert f"| `{key}` |" in table
        assert "| `model.encoder.layer.attention.num_heads` |" in table

    def test_it_has_the_keys_of_every_objective_and_of_every_tasks_data(self):
        held = json_schema()["$defs"]
        for kind in registry.names("objectives"):
            for name in objective_options(registry.kind("objectives", kind)):
                assert held["Objective"]["properties"][name]["description"]
        for task in registry.names("tasks"):
            for name in registry.kind("tasks", task).data_keys:
                assert held["Split"]["properties"][name]["description"].startswith(task)


def test_line_of_finds_tables_and_dotted_keys():
    text = "a.b = 1\n\n[c]\nd = { e = 2 }\n[c.f]\n'g' = 3\n"
    for key, line in [("a.b", 1), ("c", 3), ("c.d.e", 4), ("c.f.g", 6), ("c.x", 3), ("z", None)]:
        assert toml.line_of(text, key.split(".")) == line


MIXTURE = """task = "text-to-text"
training.max_steps = 1

[[mixture]]
name = "first"
rate = 1.0
train = { source = "a", target = "b" }

[[mixture]]
rate = 1.0
[mixture.train]
source = "a"
target = "b"
"""


@pytest.mark.parametrize(
    ("line", "other", "place", "what"),
    [
        (10, "rat = 1.0", "mixture.2.rat", "did you mean mixture.2.rate?"),
        (10, "rate = -1.0", "mixture.2.rate", "must be greater than 0"),
        (10, "rate = 1.0\nmetrics = ['x']", "mixture.2.metrics", "there is no score 'x'"),
        (10, "name = 'first'\nrate = 1.0", "mixture.2.name", "same name in scores: 'first'"),
        (5, "name = '2'", "mixture.2.name", "same name in scores: '2'"),
        (10, "", "mixture.2", "some have a rate and some have not"),
        (13, "targt = 'b'", "mixture.2.train.targt", "unknown key 'targt'"),
        (12, "source = 7", "mixture.2.train.source", "must be text, not 7"),
    ],
)
def test_the_entry_of_a_mixture_is_named(write, line, other, place, what):
    lines = MIXTURE.splitlines()
    lines[line - 1] = other
    text = "\n".join(lines)
    with pytest.raises(RecipeError) as caught:
        Recipe.load(write(text)).check()
    said, number = str(caught.value), toml.line_of(text, place.split("."))
    assert number >= 9
    assert f"mine.toml:{number}: {place}: " in said
    assert what in said


def test_a_mixtures_best_checkpoint_goes_by_a_score_that_some_entry_has(write):
    text = MIXTURE.replace("rate = 1.0", "rate = 1.0\nmetrics = ['bleu']")
    text += "[[mixture]]\nrate = 1.0\nmetrics = ['chrf']\n"
    text += "train = { source = 'a', target = 'b' }\nvalid = { source = 'a', target = 'b' }\n"
    text += "[evaluation]\nmetric = 'METRIC'\n"
    for known in ("bleu", "chrf", "loss"):
        Recipe.load(write(text.replace("METRIC", known))).check()
    with pytest.raises(RecipeError, match="there is no score 'exact_match'"):
        Recipe.load(write(text.replace("METRIC", "exact_match"))).check()


def test_what_hides_spans_reads_no_prefix(write):
    text = """task = "text-to-text"
    data = { prefix = "x: ", train.file = "a" }
    objective.kind = "span_corruption"
    training.max_steps = 1
    """
    with pytest.raises(RecipeError, match=r"data.prefix.* has no such key"):
        Recipe.load(write(text)).check()


class TestTheCommandLineIsLast:
    """What it says of every stack reaches each of them, whatever the file says of one."""

    SETTINGS: ClassVar = {
        "task": "translation",
        "model": {"preset": "tiny", "encoder": {"num_layers": 3, "layer": {"dropout": 0.3}}},
        "training": {"max_steps": 1},
    }

    def stacks(self, *words):
        config = Recipe.from_settings(self.SETTINGS, words).trial_config()
        return [
            (stack.num_layers, stack.layer.dropout) for stack in (config.encoder, config.decoder)
        ]

    def test_over_the_file(self):
        assert self.stacks("model.layer.dropout=0.5") == [(3, 0.5), (4, 0.5)]
        assert self.stacks("model.num_layers=2")[0] == (2, 0.3)
        assert self.stacks("model.decoder.layer.dropout=0.5")[0] == (3, 0.3)

    def test_beside_each_other_the_stacks_own_key_wins(self):
        words = ["model.encoder.layer.dropout=0.1", "model.layer.dropout=0.2"]
        for order in (words, words[::-1]):
            assert [dropout for _, dropout in self.stacks(*order)] == [0.1, 0.2]

    def test_weights_take_the_place_of_a_preset(self, tmp_path):
        made = Recipe.from_settings(self.SETTINGS, [f"model.start_from={tmp_path}"])
        assert "preset" not in made.model
        back = made.override(["model.preset=base"])
        assert "start_from" not in back.model
        both = Recipe.from_settings(
            self.SETTINGS, ["model.preset=base", f"model.start_from={tmp_path}"]
        )
        with pytest.raises(RecipeError, match="exclude each other"):
            both.trial_config()


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        (sections.Training, TrainingSettings),
        (sections.Optimizer, OptimizerSettings),
        (sections.Schedule, ScheduleSettings),
        (sections.Checkpoint, CheckpointSettings),
        (sections.Evaluation, EvaluationSettings),
        (sections.Decoding, DecodingSpec),
        (sections.LengthPenalty, LengthPenalty),
    ],
)
def test_a_section_and_what_it_becomes_have_the_same_defaults(section, settings):
    """The section is read without torch, the dataclass without pydantic; they must not drift."""
    theirs = {field.name: field for field in dataclasses.fields(settings)}
    shared = section.model_fields.keys() & theirs.keys()
    assert len(shared) >= 2
    for name in shared:
        default = section.model_fields[name].default
        if theirs[name].default_factory is dataclasses.MISSING:  # otherwise it is a section
            assert default == theirs[name].default, name
