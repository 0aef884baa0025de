"""See what a model looks at: python examples/look.py runs/demo "The old dog sleeps." dog.html"""

import sys

import regard
from regard.look import look

run, sentence, output = sys.argv[1:4]
translator = regard.load(run)
picture = look(translator, sentence)
picture.save(output)
print(f"{sentence!r} became {translator.translate(sentence)!r}; the picture is in {output}")
