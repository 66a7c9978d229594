"""Resume: a stream whose replica dies is continued on another one, as if nothing had happened.

While a stream runs, ``Kept`` keeps what has been passed on: the tokens' numbers where the engine gives them,
the text, and little else. At a break ``continuation`` (pure) writes the request for the rest of the answer, or
says why that can't be honest; ``Rewriter`` (bytes in, bytes out) makes the rest look like the first part:
its id, its form, its usage joined. Nothing here does I/O.

Exact means by token numbers: the same text cut into other tokens may go on differently. So the gateway asks the
engine for numbers (``return_token_ids``) and shows them only to clients that asked themselves. A chat then goes
on as a completion of the same numbers, turned back into chat events.
"""
