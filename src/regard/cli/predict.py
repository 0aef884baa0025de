"""``regard predict``: the verb that a run was trained for."""

from __future__ import annotations

import typer

from regard.cli import options
from regard.cli.verbs import make_app

app = make_app()


@app.command(context_settings={"allow_extra_args": True, "allow_interspersed_args": False})
def predict(context: typer.Context, run: options.Run) -> None:
    """Do what a run was trained for: translate, generate, chat, and so on, as its recipe says.

    What follows the run is that verb's: texts, and its options.

    regard predict runs/demo "the old dog sleeps" --beam 8
    """
    from regard import registry
    from regard.cli import verbs
    from regard.errors import InputError
    from regard.recipe import Recipe
    from regard.run import Run

    recipe = Recipe.load(Run.open(run).path, settled=True)
    verb = registry.task(recipe.task).verb
    if not verb:
        raise InputError(
            "this run has no head, so that it answers nothing: it gives states",
            where=str(run),
            hint="start a task from it: model.start_from = RUN; or look at it: regard look",
        )
    command = verbs.load(verb)
    with command.make_context(verb, [str(run), *context.args], parent=context.parent) as made:
        command.invoke(made)
