"""Latencies of the engine's parts: the constants of the analytical model.

Pipeline stages are counted in the files named, with the memory of sim/fast_memory.sv.
"""

from hw.descriptor import Select

READ_LATENCY = 16
"""Cycles from an accepted read address to its first beat (sim/fast_memory.sv)."""
WRITE_LATENCY = 8
"""Cycles from a burst's last beat to its response."""

# Loading.
ISSUE_TO_BEAT = READ_LATENCY + 2
"""hw/reader.py: from a burst's issue to its first beat behind the reader's register."""
PROGRAM_START = 5
"""hw/control.py, hw/loader.py: from the first counted cycle to the first descriptor's burst."""
CHECK = 5
"""hw/loader.py: from a descriptor's last beat to WAIT."""
WAIT_TO_LIST = 3
"""hw/loader.py, hw/winner_list.py: from WAIT to the mask's burst, or the list of all channels."""
LIST = 5
"""hw/winner_list.py: from the mask's first beat to the complete list, its chunks and runs apart; the words behind the
first are taken meanwhile."""
RUNS_AHEAD = 3
"""hw/run_stream.py: runs of a list on their way to the scheduler, behind which the list is no longer needed."""
LIST_TO_TAP = 4
"""hw/run_stream.py, hw/scheduler.py: from a group's complete list to its first tap."""
RUN_TO_BURST = 7
"""hw/winner_list.py, hw/loader.py: from the complete list to its last run's burst."""
WALK = 8
"""hw/loader.py: from a job's start to its first burst."""
EMPTY_WALK = 5
"""hw/loader.py: the same to the mark where no channel takes part."""
EMPTY_STRIP = 3
"""hw/loader.py: from one strip's mark to the next one's, where no channel takes part."""
NEXT_JOB = 3
"""hw/loader.py: from the end of a group's job to the constants that follow, at the earliest."""
NO_WEIGHTS = 4
"""hw/loader.py: from a group's constants to those that follow, where no weights are read."""
EMPTY_WEIGHTS = 6
"""hw/loader.py: the same where no channel takes part."""
NEXT_DESCRIPTOR = 1
"""hw/loader.py: what the next descriptor is later than constants would be."""
ACCEPTED_TO_FETCH = 5
"""hw/loader.py: from the scheduler's taking a descriptor to the burst of the next one."""
CONSTANTS = 3
"""hw/requantize.py, hw/drain.py: from the last beat of constants to the first sums that may be read."""
CONSTANTS_FREED = 3
"""hw/drain.py, hw/loader.py: from behind a group's last sums to the burst of constants in their place."""

# Computing.
ROWS_TO_TAP = 7
"""hw/unpacker.py, hw/scheduler.py: from a strip's mark to the first tap that may use it."""
WEIGHTS_TO_TAP = 2
"""hw/engine.py, hw/scheduler.py: from a beat of weights to the tap that uses it."""
START_TO_TAP = 4
"""hw/scheduler.py: from taking a descriptor to its first tap, a cycle for each of the position lanes apart; one more
where its activations come later."""
STRIP_TO_TAKE = 4
"""hw/unpacker.py, hw/scheduler.py: from a strip's mark to the cycle before the scheduler may take it."""
EMPTY_LIST_TO_MARK = 4
"""hw/loader.py: from the complete list to the mark of a strip that no channel takes part in."""
MARK_TO_BEAT = 3
"""hw/reader.py: from the issue of a mark that follows no data to its coming."""
NEXT_TILE = 2
"""hw/positions.py: cycles of a tile at least."""
TAP_TO_ACCEPT = 2
"""hw/scheduler.py: from a band's last tap to taking the next descriptor."""
ARRAY_SUMS = 7
"""hw/drain.py: from a tile's last tap to the first column's sums being read, a cycle for each row apart."""
TAP_BEFORE_DRAINED = 6
"""hw/drain.py: from a tile's last tap, at the earliest, to the end of draining the tile before, a cycle for each column
and for each chunk of one apart."""
VECTOR_SUMS = 11
"""hw/vector_unit.py, hw/drain.py: from a tile's last step to its sums being read."""
VECTOR_TILES = 8
"""hw/vector_unit.py: tiles whose last step is issued ahead of their sums being read."""
DRAIN_TO_DRAIN = 12
"""hw/drain.py: from a descriptor's last sums to taking the next one."""
ADDITION = 5
"""hw/addition.py: what it adds to the latency of the drain."""

# Writing.
RESULT = 11
"""hw/drain.py, hw/write_back.py: from behind a tile's last sums to the walker taking the strip that they complete."""
FREED = 2
"""hw/strip_walker.py, hw/drain.py: from a strip's end to sums read into its place."""
STRIP = 1
"""hw/strip_walker.py: cycles of a strip besides its runs and reads."""
SCORES = 2
"""hw/strip_walker.py: cycles of a group's scores besides their reads."""
SCORE = 9
"""hw/pooling.py, hw/score.py, hw/write_back.py: from a strip's end to the walker taking the scores behind it."""
JUDGE = 10
"""hw/write_back.py: from the end of a strip that is read for its scores alone to its being taken again."""
BOUND = 9
"""hw/ranking.py: what the search for the threshold of top-k adds to it."""
MEAN = 8
"""hw/score.py: the requantization of a mean."""
WRITE_BACK_START = 3
"""hw/write_back.py: from taking a descriptor to its first strip."""
LAYER_END = 17 + WRITE_LATENCY
"""hw/write_back.py, hw/writer.py, hw/control.py: from the scores' end to the end of a program."""
WINNERS_END = 14 + WRITE_LATENCY
"""The same from the last word of winners."""
SELECT = 1
"""hw/write_back.py: from the walker taking the last scores to the selection."""
FIRST_WINNERS = 5
"""hw/pooling.py, hw/writer.py: from the scores' end to the first word of winners, at the earliest."""
RANKING = {Select.TOPK: 14, Select.ENERGY: 15, Select.THRESHOLD: 5}
"""hw/ranking.py: from the selection to the first word of winners; for energy a cycle more a bit of the channels."""
NEXT_LAYER = 9
"""hw/control.py: from a layer's end to the start of the next."""
