/*
 * A load generator for large bodies that costs as little as a client can that really copies what it receives.
 *
 *   load [-t] [-c CONNECTIONS] [-n REQUESTS | -s SECONDS] PORT PATH
 *
 * One thread a connection to 127.0.0.1, keep-alive, one buffer a thread. Connections and TLS handshakes (-t: TLS 1.3,
 * AES-128-GCM, certificate not checked) come first; then the clock starts for all. With -n every connection asks that
 * often (default 1) and reads whole bodies; with -s it asks again and again and breaks off at the deadline, and bytes
 * are counted until then. An answer must be 200 with a Content-Length, and be complete.
 *
 * Prints one JSON object: seconds (first request to last byte), bytes, cpu_seconds (this process), responses (complete
 * ones), errors, error (the first one), first_byte_seconds and connection_seconds (a number a connection; the first
 * byte is the body's, of the connection's first request).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/ssl.h>
#endif

#define BUFFER_BYTES (1024 * 1024)
#define MAX_CONNECTIONS 1024

struct connection {
    pthread_t thread;
    int fd;
    void *tls;
    char *buffer;
    long long bytes;
    long responses;
    double first_byte_seconds, seconds;
    char error[160];
};

static struct connection connections[MAX_CONNECTIONS];
static pthread_barrier_t ready;
static const char *path;
static int port, use_tls;
static long requests = 1;
static double limit_seconds;
static double started;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static ssize_t take(struct connection *c, char *data, size_t length) {
#ifdef WITH_TLS
    if (c->tls) return SSL_read(c->tls, data, (int)length);
#endif
    return recv(c->fd, data, length, 0);
}

static ssize_t give(struct connection *c, const char *data, size_t length) {
#ifdef WITH_TLS
    if (c->tls) return SSL_write(c->tls, data, (int)length);
#endif
    return send(c->fd, data, length, 0);
}

static int over(void) { return limit_seconds > 0 && now() - started >= limit_seconds; }

/* 0: a whole body; 1: the deadline came; -1: an error, described in c->error. */
static int ask(struct connection *c) {
    char request[2048];
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\nUser-Agent: bench\r\n\r\n", path, port);
    double begin = now();
    if (give(c, request, (size_t)size) != size) {
        snprintf(c->error, sizeof c->error, "sending the request: %s", strerror(errno));
        return -1;
    }
    size_t have = 0, header = 0;
    while (!header) {
        ssize_t n = take(c, c->buffer + have, BUFFER_BYTES - 1 - have);
        if (n <= 0) {
            snprintf(c->error, sizeof c->error, "no answer: %s", n < 0 ? strerror(errno) : "the connection was closed");
            return -1;
        }
        have += (size_t)n;
        c->buffer[have] = 0;
        char *end = strstr(c->buffer, "\r\n\r\n");
        if (end) header = (size_t)(end - c->buffer) + 4;
        else if (have >= BUFFER_BYTES - 1) return -1;
    }
    if (strncmp(c->buffer, "HTTP/1.1 200", 12) != 0) {
        snprintf(c->error, sizeof c->error, "answer: %.40s", c->buffer);
        return -1;
    }
    char *field = strcasestr(c->buffer, "\r\ncontent-length:");
    if (!field || field > c->buffer + header) {
        snprintf(c->error, sizeof c->error, "an answer without Content-Length");
        return -1;
    }
    long long left = atoll(field + 17);
    ssize_t n = (ssize_t)(have - header);
    for (;;) {
        if (n > 0 && c->first_byte_seconds == 0) c->first_byte_seconds = now() - begin;
        c->bytes += n;
        left -= n;
        if (left <= 0) break;
        if (over()) return 1;
        n = take(c, c->buffer, left < BUFFER_BYTES ? (size_t)left : BUFFER_BYTES);
        if (n <= 0) {
            snprintf(c->error, sizeof c->error, "the body ended %lld bytes short", left);
            return -1;
        }
    }
    c->responses++;
    return 0;
}

static void *run(void *argument) {
    struct connection *c = argument;
    pthread_barrier_wait(&ready); /* all are connected */
    pthread_barrier_wait(&ready); /* the clock has been started */
    for (long i = 0; limit_seconds > 0 ? !over() : i < requests; i++)
        if (ask(c) != 0) break;
    c->seconds = now() - started;
    return NULL;
}

static void open_connection(struct connection *c, void *context) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("connect");
        exit(1);
    }
#ifdef WITH_TLS
    if (use_tls) {
        c->tls = SSL_new(context);
        SSL_set_fd(c->tls, c->fd);
        if (SSL_connect(c->tls) != 1) {
            fprintf(stderr, "TLS handshake failed\n");
            exit(1);
        }
    }
#else
    (void)context;
#endif
    c->buffer = malloc(BUFFER_BYTES);
    if (!c->buffer) exit(1);
}

int main(int argc, char **argv) {
    int count = 1, option;
    while ((option = getopt(argc, argv, "tc:n:s:")) != -1) {
        if (option == 't') use_tls = 1;
        else if (option == 'c') count = atoi(optarg);
        else if (option == 'n') requests = atol(optarg);
        else if (option == 's') limit_seconds = atof(optarg);
        else return 2;
    }
    if (argc - optind != 2 || count < 1 || count > MAX_CONNECTIONS) {
        fprintf(stderr, "usage: load [-t] [-c CONNECTIONS] [-n REQUESTS | -s SECONDS] PORT PATH\n");
        return 2;
    }
    port = atoi(argv[optind]);
    path = argv[optind + 1];
    signal(SIGPIPE, SIG_IGN);
    void *context = NULL;
#ifdef WITH_TLS
    if (use_tls) {
        context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
        SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
    }
#else
    if (use_tls) {
        fprintf(stderr, "built without OpenSSL\n");
        return 2;
    }
#endif
    pthread_barrier_init(&ready, NULL, (unsigned)count + 1);
    for (int i = 0; i < count; i++) {
        open_connection(&connections[i], context);
        if (pthread_create(&connections[i].thread, NULL, run, &connections[i]) != 0) return 1;
    }
    pthread_barrier_wait(&ready);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    started = now();
    pthread_barrier_wait(&ready);
    for (int i = 0; i < count; i++) pthread_join(connections[i].thread, NULL);
    double seconds = now() - started;
    getrusage(RUSAGE_SELF, &after);
    double cpu = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) +
                 (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1e6;
    long long bytes = 0;
    long responses = 0, errors = 0;
    const char *error = "";
    for (int i = 0; i < count; i++) {
        bytes += connections[i].bytes;
        responses += connections[i].responses;
        if (connections[i].error[0]) {
            if (!errors++) error = connections[i].error;
        }
    }
    printf("{\"seconds\": %.6f, \"bytes\": %lld, \"cpu_seconds\": %.6f, \"responses\": %ld, \"errors\": %ld, \"error\": \"",
           seconds, bytes, cpu, responses, errors);
    for (; *error; error++)
        if (*error >= 32 && *error != '"' && *error != '\\') putchar(*error);
    printf("\", \"first_byte_seconds\": [");
    for (int i = 0; i < count; i++) printf("%s%.6f", i ? ", " : "", connections[i].first_byte_seconds);
    printf("], \"connection_seconds\": [");
    for (int i = 0; i < count; i++) printf("%s%.6f", i ? ", " : "", connections[i].seconds);
    printf("]}\n");
    return 0;
}
