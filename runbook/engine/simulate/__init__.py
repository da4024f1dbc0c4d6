"""A plan played thousands of times on a virtual clock. Pure: no I/O, no clock, no threads.

    work = lay_out(plan, durations, failure_rates)     # what is there to do; plain values
    played = play(work, runs=10_000, seed=1)           # numpy
    prediction = predict(plan, work, played, ...)      # quantiles, odds, the latest safe decision

``durations`` come from measured runs, or from estimates with a spread that is named. Only
``draw``, ``schedule`` and ``predict`` know numpy (the extra ``simulate``): import them late.
"""
