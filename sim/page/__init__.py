"""The parts of the page of ``winnow compare``: figures as positions, tables as cells, and the templates for both.

Positions across are percentages of a figure's width, so that figures follow the width of the window while their text
keeps its size.
"""
