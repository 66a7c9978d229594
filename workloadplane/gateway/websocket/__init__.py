"""WebSocket: a handshake that finds its replica, then a tunnel that carries bytes as they came.

    handshake  pure: what an upgrade must look like, whose it is, which model it names
    opening    pure: the model out of the first message, where the handshake names none
    frames     pure: frame headers, for sanity, idleness and accounting
    replies    pure: what the engine's messages say of its responses: when one is made, what it cost
    seat       a session's place at its replica, and when it counts as a request there
    asking     from the model to what is asked
    choosing   where it goes: choices one after the other, the queue between
    attempts   what is sent to one replica or peer
    shaking    the attempts, one at a time
    session    one session's life: from the handshake to its end
    sessions   all of a process, and how many there may be
    tunnel     the bytes of both directions, half-closes, and an end that is said
    engine     the socket to the replica or to a peer's gateway
    account    what its responses used, written down one by one
    record     an ended session, written down

Nothing is framed anew and nothing is compressed here: extensions are the two ends' business. The only bytes of
our own in a session are the Close frame with which we end one.
"""
