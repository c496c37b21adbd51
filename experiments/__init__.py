"""The training runs behind what the lessons claim: NAME.py has the runs of a chapter, NAME.json what came out."""
