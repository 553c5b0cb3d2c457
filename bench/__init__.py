"""`make bench`: s3reg beside a raw copy by s5cmd, on the same machine, in one run, as ratios."""
