"""From finished records to pictures and tables.

A score is settled before it comes here. This folder takes the records the other stages hand over (`Estimate`,
`Verdict`, `ScoredPair`, and the `Dataset` they speak of) and draws or prints them; it computes nothing that a score or
a verdict depends on, and nothing but `score_files` reads anything back.

Three rules hold throughout. A number is shown with its standard error. A value that could not be estimated is never
drawn as if it were one: it is left out and counted, or printed as "-". A regime is told apart by marker as well as by
colour, so that a figure survives a black-and-white printer.

    style     colours, markers and matplotlib's settings while infl draws, in light and dark
    plot      every figure, reached as `infl.plot`
    text      numbers as words; predicted and measured verdicts brought together
    tables    scores and verdicts in a terminal
    exchange  the same as JSON, .npz, CSV and Parquet, and in the layout of Feldman and Zhang's files
    score_files  scores read back from these, or from what others publish
    page      all of it in one HTML file for a browser

matplotlib is imported by `plot` alone, and not by this package.
"""
