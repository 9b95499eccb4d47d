"""Running the notebooks by command; ``python -m cicy_utils.batch``, or ``bash run_all.sh``."""
