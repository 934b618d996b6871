package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

const nchanModule = "/usr/lib/nginx/modules/ngx_nchan_module.so"

var peers = []peer{
	{name: "floor", path: "/sub", start: func(b *bench, port int) (*exec.Cmd, error) { return b.command("floor", strconv.Itoa(port)) }},
	{name: "direct", path: "/sub", module: true, start: caddy("delivery direct", "compress off")},
	{name: "gzip", path: "/sub", module: true, gzip: true, start: caddy("delivery direct", "compress gzip")},
	{name: "handler", path: "/sub", module: true, start: caddy("delivery handler", "compress off")},
	{name: "gochan", path: "/sub", start: func(b *bench, port int) (*exec.Cmd, error) { return b.command("gochan", strconv.Itoa(port)) }},
	{name: "nchan", path: "/sub", start: nchan, needs: nchanModule},
}

func (b *bench) command(name string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(filepath.Join(b.dir, name), args...)
	cmd.Dir = b.dir
	cmd.Stderr = os.Stderr
	return cmd, cmd.Start()
}

// caddy starts this module with some options, with the access log on. A POST
// to the stream's URL succeeds and so has the document polled at once.
func caddy(delivery, compress string) func(*bench, int) (*exec.Cmd, error) {
	return func(b *bench, port int) (*exec.Cmd, error) {
		config := fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	log {
		output file %[2]s/caddy.log
	}
}
http://127.0.0.1:%[1]d {
	bind 127.0.0.1
	log {
		output file %[2]s/access.log
	}
	poll_sse /sub http://%[3]s/document {
		interval 1h
		heartbeat 10m
		max_subscribers 30000
		%[4]s
		%[5]s
	}
	respond 204
}
`, port, b.dir, b.upstream, delivery, compress)
		path := filepath.Join(b.dir, "Caddyfile")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			return nil, err
		}
		return b.command("caddy", "run", "--config", path, "--adapter", "caddyfile")
	}
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
