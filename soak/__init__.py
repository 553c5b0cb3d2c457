"""`make soak`: many pushers, pullers and sweeps of one store at once, for minutes. Nothing is lost, nothing is left over.

__main__   what is started, for how long, and what it came to
book       what every push wrote, whoever reads it
vms        small VMs whose chunks are those of others too
actor      what pushers and pullers have in common
pusher     one that makes, changes, removes and restores versions of its own templates
puller     one that pulls whatever is there, and compares it
worker     a process of pushers and pullers
sweeps     `s3reg gc`, every second
hurried    s3reg with short limits
kept       what must hold when all have stopped
inventory  what lies in the store, beside what heads name
"""
