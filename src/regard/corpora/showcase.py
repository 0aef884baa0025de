"""Sentences for the end of the demo, one for each thing that German asks of a translator.

Written by hand. The grammar can say each of them, and each has a combination of words that is held
out of training (tests/unit/corpora).
"""

from __future__ import annotations

from regard.corpora.corpus import Pair

DEMO_SHOWCASE: tuple[Pair, ...] = (
    Pair(
        "The young policeman calls his old grandmother.",
        "Der junge Polizist ruft seine alte Großmutter an.",
    ),
    Pair(
        "On Friday I buy a blue hat for my small brother.",
        "Am Freitag kaufe ich einen blauen Hut für meinen kleinen Bruder.",
    ),
    Pair(
        "Because the train arrives late, the tired student waits at the station.",
        "Weil der Zug spät ankommt, wartet der müde Student am Bahnhof.",
    ),
    Pair(
        "The teacher knows that the queen watches television.",
        "Der Lehrer weiß, dass die Königin fernsieht.",
    ),
    Pair(
        "There are forty-two yellow chairs in the old church.",
        "Es gibt zweiundvierzig gelbe Stühle in der alten Kirche.",
    ),
    Pair(
        "Did you put the doll on the red sofa?",
        "Hast du die Puppe auf das rote Sofa gelegt?",
    ),
    Pair(
        "The small child does not want to eat the potato.",
        "Das kleine Kind will die Kartoffel nicht essen.",
    ),
    Pair(
        "This is the woman who invited the doctor.",
        "Das ist die Frau, die den Arzt eingeladen hat.",
    ),
    Pair(
        "I gave the tired man hot coffee.",
        "Ich habe dem müden Mann heißen Kaffee gegeben.",
    ),
)
