"""What processes of one gateway hand to one another: the listening socket, client connections.

    wire    the messages, and the unix sockets that carry them with file descriptors
    desk    a process's own socket, at which others ask
    heir    a new process takes the listening socket over from the one that serves
    passing a client's connection goes to another process, between two answers or before one has begun
    shards  pure: which process owns a deployment's queue
    family  several processes as one program

Why sockets are handed over, and not only shared: docs/decisions/0014.
"""
