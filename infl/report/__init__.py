"""From finished records to pictures and tables.

A score is settled before it comes here. This folder takes the records the other stages hand over (`Estimate`,
`Verdict`, `ScoredPair`, and the `Dataset` they speak of) and draws or prints them; it computes nothing that a score or
a verdict depends on, and nothing here is read back.

Three rules hold throughout. A number is shown with its standard error. A value that could not be estimated is never
drawn as if it were one: it is left out and counted, or printed as "-". A regime is told apart by marker as well as by
colour, so that a figure survives a black-and-white printer.

    style        colours, markers, and the settings of matplotlib while infl draws, in light and dark
    canvas       axes, notes, saving
    figures      the map of regimes
    histogram    memorization, beside what chance alone would draw
    galleries    memorized examples and influential pairs, as pictures
    heatmap      influence of classes on classes
    calibration  predictions beside what retraining measured
    curves       dose-response of a group; errors against models
    labels       names beside points, without overlaps
    examples     one example as a small picture
    tables       the same records in a terminal
    machine      the same as JSON and .npz
    exchange     scores for other tools: CSV, Parquet, the layout of Feldman and Zhang's files
    pairing      predicted and measured verdicts brought together
    selection    which examples a report shows, and what they are called
    page         all of it in one HTML file for a browser
    progress     how far a long stage has come

Figures are made without pyplot, so nothing global is left behind: a figure shows itself as the last line of a notebook
cell after `%matplotlib inline`, and one that comes back as axes through its `.figure`. matplotlib is imported by the
modules that draw, not by this one.
"""
