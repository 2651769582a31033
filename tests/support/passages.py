"""A small collection of true statements, written for these tests: six topics, four passages each."""

from __future__ import annotations

PASSAGES = {
    "orbit-1": "The Moon orbits the Earth once in about twenty-seven days and always shows it the same face.",
    "orbit-2": "Kepler found that planets move on ellipses with the Sun in one focus.",
    "orbit-3": "A geostationary satellite circles the Earth above the equator once a day, at a height of 35,786 km.",
    "orbit-4": "Halley's comet returns to the inner solar system every seventy-five years or so.",
    "bread-1": "Sourdough bread rises with wild yeast and lactic acid bacteria instead of baker's yeast.",
    "bread-2": "Kneading a dough develops gluten, which holds the gas that the yeast gives off.",
    "bread-3": "Rye flour has little gluten, so rye bread is denser than bread of wheat.",
    "bread-4": "Bakers score a loaf before baking so that it opens where they want it to.",
    "blood-1": "Red blood cells carry oxygen from the lungs to the tissues by means of haemoglobin.",
    "blood-2": "Insulin lowers the level of glucose in the blood; it is made in the pancreas.",
    "blood-3": "Platelets gather at a wound and help the blood to clot.",
    "blood-4": "Anaemia is a lack of red cells or of haemoglobin and makes people tired.",
    "music-1": "A symphony orchestra tunes to the A of the oboe, usually at 440 Hz or a little above.",
    "music-2": "Johann Sebastian Bach was cantor at St Thomas in Leipzig from 1723 until he died in 1750.",
    "music-3": "An octave doubles the frequency of a tone.",
    "music-4": "The violin has four strings, tuned in fifths: G, D, A and E.",
    "river-1": "The Nile flows north through eleven countries and reaches the Mediterranean in a delta.",
    "river-2": "Salmon swim up rivers to spawn in the gravel of the streams where they hatched.",
    "river-3": "A meander grows because the water erodes its outer bank and drops sand at the inner one.",
    "river-4": "The Danube rises in the Black Forest and flows into the Black Sea.",
    "law-1": "A contract needs an offer and an acceptance; in most cases it need not be written.",
    "law-2": "In criminal trials the accused is presumed innocent until guilt is proved.",
    "law-3": "A patent protects an invention for twenty years from the day it was filed.",
    "law-4": "Copyright arises without registration when a work is created.",
}
"""Texts by id; the part of the id before the hyphen is the topic."""

QUERIES = (
    "What makes bread rise?",
    "How long does the Moon take to go round the Earth?",
    "What carries oxygen in blood?",
)

IDS = list(PASSAGES)
TEXTS = list(PASSAGES.values())
METADATAS = [{"topic": id_.split("-")[0], "number": int(id_.split("-")[1])} for id_ in PASSAGES]

LONG_PASSAGE = " ".join(TEXTS)
"""Some 450 tokens: more than the embedded model reads of a document."""
