/*
 * The floor of a cold blob: receive over a socket, write to a file, SHA-256, send to the client, and nothing else.
 *
 * A proxy of one request at a time on 127.0.0.1: each connection's GET is sent to the upstream as it is; the answer's
 * body goes through one buffer to the file, into the hash and to the client. No cache does less work than this.
 *
 *   floor UPSTREAM_PORT FILE     prints "listening PORT" and serves until it is killed
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES (256 * 1024)

static char buffer[BUFFER_BYTES];

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* Returns -1 where the peer has gone. */
static int put(int fd, const char *data, size_t length) {
    while (length > 0) {
        ssize_t n = write(fd, data, length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        data += n;
        length -= (size_t)n;
    }
    return 0;
}

/* Reads up to and including the empty line; returns the bytes read, the header's length in *header. */
static ssize_t get_header(int fd, size_t *header) {
    size_t have = 0;
    while (have < BUFFER_BYTES - 1) {
        ssize_t n = recv(fd, buffer + have, BUFFER_BYTES - 1 - have, 0);
        if (n <= 0) return -1;
        have += (size_t)n;
        buffer[have] = 0;
        char *end = strstr(buffer, "\r\n\r\n");
        if (end) {
            *header = (size_t)(end - buffer) + 4;
            return (ssize_t)have;
        }
    }
    return -1;
}

static int connect_to(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect to the upstream");
    return fd;
}

static void serve(int client, int upstream_port, const char *file) {
    size_t header;
    ssize_t have = get_header(client, &header);
    if (have < 0) return;
    int upstream = connect_to(upstream_port);
    if (put(upstream, buffer, header) < 0) die("send to the upstream");
    have = get_header(upstream, &header);
    if (have < 0) die("read from the upstream");
    char *field = strcasestr(buffer, "\r\ncontent-length:");
    if (!field || field > buffer + header) die("the upstream named no Content-Length");
    long long left = atoll(field + 17);
    int out = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out < 0) die(file);
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    int gone = put(client, buffer, header) < 0;
    size_t length = (size_t)have - header;
    char *data = buffer + header;
    for (;;) {
        if (length > 0) {
            if (put(out, data, length) < 0) die(file);
            EVP_DigestUpdate(hash, data, length);
            if (!gone) gone = put(client, data, length) < 0;
            left -= (long long)length;
        }
        if (left <= 0) break;
        ssize_t n = recv(upstream, buffer, BUFFER_BYTES, 0);
        if (n <= 0) die("read from the upstream");
        data = buffer;
        length = (size_t)n;
    }
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_DigestFinal_ex(hash, digest, NULL);
    EVP_MD_CTX_free(hash);
    close(out);
    close(upstream);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: floor UPSTREAM_PORT FILE\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 8) < 0)
        die("listen");
    socklen_t length = sizeof address;
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0) continue;
        int on = 1;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        serve(client, atoi(argv[1]), argv[2]);
        close(client);
    }
}
