"""``regard new TASK``: a commented recipe for one's own data, sized to them."""

from __future__ import annotations

from regard.cli.new.classification import classification
from regard.cli.new.dialogue import dialogue
from regard.cli.new.image_classification import image_classification
from regard.cli.new.language_modeling import language_modeling
from regard.cli.new.masked_language_modeling import masked_language_modeling
from regard.cli.new.object_detection import object_detection
from regard.cli.new.question_answering import question_answering
from regard.cli.new.summarization import summarization
from regard.cli.new.tagging import tagging
from regard.cli.new.text_to_text import text_to_text
from regard.cli.new.translation import translation
from regard.cli.verbs import make_app

app = make_app(
    no_args_is_help=True,
    help="Write a commented recipe for data of your own, sized to them.",
)


@app.callback()
def _tasks() -> None:
    """A verb of its own for each task."""


for command in (
    translation,
    language_modeling,
    dialogue,
    masked_language_modeling,
    classification,
    tagging,
    question_answering,
    text_to_text,
    summarization,
    image_classification,
    object_detection,
):
    app.command()(command)
