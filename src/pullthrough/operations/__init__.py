"""What can be asked of a cache beside serving it, as one table: name, what is asked with it, what is answered, how it is done.

    operation    an entry of the table, and who performs one
    json_form    requests and answers as JSON objects, and back
    table        all entries; who can do them in one process
    assembly     who does them for an engine that serves
    images       refresh, pin, unpin
    room         evict, lifecycle
    events       events
    check        check
    keys         keys list, show, create, renew, remove, rotate
    status       status

The control socket, its client and the way without an engine follow the table, whatever stands in it. A new operation is a
request, an answer, a method and an entry in one of these modules. All of them but `assembly` load nothing that takes time
when they are imported: the command line imports them before it knows what it is asked for.
"""
