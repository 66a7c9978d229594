"""Which plan is the cheapest, and how near to the best is it, proven?

``improve.improve`` searches by prices (decision 0022), beginning with a plan of ``greedy``. Needs numpy and
HiGHS: whoever asks for no search does not load them. Never imports ``questions`` or the judge.
"""
