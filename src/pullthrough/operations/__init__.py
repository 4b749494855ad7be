"""What can be asked of a cache beside serving it, as one table: name, what is asked with it, what is answered, how it is done.

    operation    an entry of the table, and who performs one
    json_form    requests and answers as JSON objects, and back
    table        all entries; who can do them in one process
    images       refresh, pin, unpin
    room         evict, lifecycle
    events       events
    check        check
    keys         keys list, show, create, renew, remove, rotate
    status       status

The control socket, its client and the way without an engine follow the table, whatever stands in it. A new operation is a
request, an answer, a method and an entry in one of these modules, and its parts in `server.operations`.
"""
