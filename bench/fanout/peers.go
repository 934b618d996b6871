package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const nchanModule = "/usr/lib/nginx/modules/ngx_nchan_module.so"

var peers = []peer{
	{name: "floor", path: "/sub", start: func(b *bench, port int) (*exec.Cmd, error) { return b.command("floor", strconv.Itoa(port)) }},
	{name: "direct", path: "/sub", module: true, start: caddy("", "delivery direct", "compress off")},
	{name: "gzip", path: "/sub", module: true, mode: "gzip", start: caddy("", "delivery direct", "compress gzip")},
	{name: "handler", path: "/sub", module: true, start: caddy("", "delivery handler", "compress off")},
	{name: "tls", path: "/sub", module: true, mode: "tls", start: caddy("h1", "compress off")},
	{name: "h2", path: "/sub", module: true, mode: "h2", start: caddy("h1 h2", "compress off")},
	{name: "gochan", path: "/sub", start: func(b *bench, port int) (*exec.Cmd, error) { return b.command("gochan", strconv.Itoa(port)) }},
	{name: "nchan", path: "/sub", start: nchan, needs: nchanModule},
	{name: "pushpin", path: "/sub", start: pushpin, publish: pushpinPublish, needs: "/usr/bin/pushpin", most: 1000, atOnce: 16},
}

func (b *bench) command(name string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(filepath.Join(b.dir, name), args...)
	cmd.Dir = b.dir
	cmd.Stderr = os.Stderr
	return cmd, cmd.Start()
}

// caddy starts this module with some options, with the access log on, over TLS
// if protocols are given. A POST to the stream's URL succeeds and so has the
// document polled at once.
func caddy(protocols string, options ...string) func(*bench, int) (*exec.Cmd, error) {
	return func(b *bench, port int) (*exec.Cmd, error) {
		scheme, servers, tls := "http", "", ""
		if protocols != "" {
			scheme, servers, tls = "https", "servers {\n\t\tprotocols "+protocols+"\n\t}", "tls "+b.certificate+" "+b.certificate
		}
		config := fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	log {
		output file %[2]s/caddy.log
	}
	%[6]s
}
%[5]s://127.0.0.1:%[1]d {
	bind 127.0.0.1
	%[7]s
	log {
		output file %[2]s/access.log
	}
	poll_sse /sub http://%[3]s/document {
		interval 1h
		heartbeat 10m
		max_subscribers 30000
		%[4]s
	}
	respond 204
}
`, port, b.dir, b.upstream, strings.Join(options, "\n\t\t"), scheme, servers, tls)
		path := filepath.Join(b.dir, "Caddyfile")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			return nil, err
		}
		return b.command("caddy", "run", "--config", path, "--adapter", "caddyfile")
	}
}

// certificate makes the certificate of 127.0.0.1, with its key in the same file.
func certificate(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return os.WriteFile(path, text, 0o600)
}

func nchan(b *bench, port int) (*exec.Cmd, error) {
	config := fmt.Sprintf(`load_module %[1]s;
daemon off;
pid %[2]s/nginx.pid;
error_log %[2]s/nginx.log;
worker_processes 2;
worker_rlimit_nofile 20000;
events { worker_connections 20000; }
http {
	access_log off;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/proxy;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	nchan_shared_memory_size 256m;
	server {
		listen 127.0.0.1:%[3]d backlog=4096;
		location = /sub { nchan_subscriber eventsource; nchan_channel_id c; nchan_subscriber_first_message newest; }
		location = /pub { nchan_publisher; nchan_channel_id c; nchan_message_buffer_length 16; }
	}
}
`, nchanModule, b.dir, port)
	path := filepath.Join(b.dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("nginx", "-c", path)
	cmd.Stderr = os.Stderr
	return cmd, cmd.Start()
}

// pushpin starts Pushpin with the processes that Debian has as services of
// their own, condure and zurl. It asks the bench about each stream.
func pushpin(b *bench, port int) (*exec.Cmd, error) {
	control, err := freePort()
	if err != nil {
		return nil, err
	}
	b.control = fmt.Sprintf("http://127.0.0.1:%d/publish/", control)
	config := fmt.Sprintf(`[global]
include={libdir}/internal.conf
rundir=%[1]s
ipc_prefix=p-
[runner]
services=condure,zurl,pushpin-proxy,pushpin-handler
http_port=127.0.0.1:%[2]d
logdir=%[1]s
client_maxconn=20000
[proxy]
routesfile=%[1]s/routes
zurl_out_specs=ipc://{rundir}/{ipc_prefix}zurl-in
zurl_out_stream_specs=ipc://{rundir}/{ipc_prefix}zurl-in-stream
zurl_in_specs=ipc://{rundir}/{ipc_prefix}zurl-out
[handler]
push_in_spec=ipc://{rundir}/{ipc_prefix}push
push_in_sub_specs=ipc://{rundir}/{ipc_prefix}sub
command_spec=ipc://{rundir}/{ipc_prefix}command
push_in_http_addr=127.0.0.1
push_in_http_port=%[3]d
push_in_http_max_headers_size=10000
push_in_http_max_body_size=1000000
message_rate=0
`, b.dir, port, control)
	if err := os.WriteFile(filepath.Join(b.dir, "routes"), []byte("* "+b.upstream+"\n"), 0o600); err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, "pushpin.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("pushpin", "--config="+path)
	cmd.Stderr = os.Stderr
	return cmd, cmd.Start()
}

// hold is what Pushpin is told about a stream: to hold it, on a channel.
func hold(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Grip-Hold", "stream")
	w.Header().Set("Grip-Channel", "c")
	_, _ = io.WriteString(w, ":\n\n")
}

func pushpinPublish(b *bench, event []byte) (string, []byte) {
	return b.control, fmt.Appendf(nil, `{"items":[{"channel":"c","formats":{"http-stream":{"content":"data: %s\n\n"}}}]}`, event)
}
