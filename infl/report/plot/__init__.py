"""Every figure of infl, reached as `infl.plot`: records in, matplotlib axes out.

    regime_map         where self-influence and harm put each forget set, predicted and measured
    reliability        predicted effects, or probabilities of regimes, beside what retraining measured
    dose_response      what removing a growing fraction of a group does
    memorization       how memorization is distributed, beside what chance alone would draw
    memorized_gallery  the most memorized examples of each class, as pictures
    influence_pairs    training examples beside the examples that they help or harm, as pictures
    tokens             which tokens of a document forgetting changes, in its text
    derivations        which facts models know a fact from, as a graph
    class_influence    how much the examples of each class help or harm each class
    agreement          one set of scores against another of the same examples
    distances          how near unlearned models come to A(D\\S) and to A(D\\S_full)
    gamma_curve        what methods reach against the fraction of a concept that was found
    error_curve        how errors shrink with the number of models

Each takes `ax=` and gives axes back; the figure is their `.figure`, and `save` writes it. `house_style("dark")` around the
calls switches the theme. Figures are made without pyplot, so nothing global is left behind. What could not be estimated is
never drawn as if it were: it is left out and counted below the plot. Everything drawn has its standard error.
"""

from infl.report.plot.agreement import agreement as agreement
from infl.report.plot.calibration import reliability as reliability
from infl.report.plot.canvas import save as save
from infl.report.plot.classes import class_influence as class_influence
from infl.report.plot.curves import dose_response as dose_response
from infl.report.plot.curves import error_curve as error_curve
from infl.report.plot.derivations import derivations as derivations
from infl.report.plot.distances import distances as distances
from infl.report.plot.distances import gamma_curve as gamma_curve
from infl.report.plot.galleries import influence_pairs as influence_pairs
from infl.report.plot.galleries import memorized_gallery as memorized_gallery
from infl.report.plot.histogram import memorization as memorization
from infl.report.plot.regimes import regime_map as regime_map
from infl.report.plot.tokens import tokens as tokens
from infl.report.style import house_style as house_style
