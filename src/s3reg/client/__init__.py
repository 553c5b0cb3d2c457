"""The node's half: a library of VMs, a line to a registry, and the transfer between them. No flask, no boto3."""
