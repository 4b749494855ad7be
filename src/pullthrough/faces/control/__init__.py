"""The control socket: what the command line asks of a running engine. Both ends of it.

    face      answers; a part of the engine
    client    asks; a part of the command line, which loads no web framework for it

HTTP/1.1 over a unix socket of mode 0600. Each operation of the table has its path: `POST /refresh` and so on, with a JSON
object, and `GET /status`. An answer is 200 with a JSON object, or 4xx or 5xx with
{"error": {"reference", "message", "hint"}}. Who may open the socket may do all of this; there is no other authentication.
"""
