// Command cluster runs three nodes of Caddy that share one poll, the engine
// between them, and a balancer in front, all on this machine:
//
//	cd examples/cluster
//	go run .
//
// Then open http://localhost:8080/ and press Enter in the terminal: the node
// that the page is on is killed, and the page goes on.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/nats-io/nats-server/v2/server"

	_ "github.com/pollsse/caddy-poll-sse"
	_ "github.com/pollsse/caddy-poll-sse/cluster/nats"
)

// asCaddy has this program be Caddy.
const asCaddy = "EXAMPLE_AS_CADDY"

func main() {
	if os.Getenv(asCaddy) != "" {
		caddycmd.Main()
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child is one Caddy.
type child struct {
	name, address, admin string
	cmd                  *exec.Cmd
	ended                chan struct{}
}

// start runs Caddy with a configuration and its variables.
func (c *child) start(config string, env ...string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	c.cmd = exec.Command(exe, "run", "--config", config, "--adapter", "caddyfile")
	c.cmd.Env = append(append(os.Environ(), asCaddy+"=1"), env...)
	log, err := os.Create(c.name + ".log")
	if err != nil {
		return err
	}
	defer log.Close()
	c.cmd.Stdout, c.cmd.Stderr = log, log
	if err := c.cmd.Start(); err != nil {
		return err
	}
	c.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait()
		close(ended)
	}(c.cmd, c.ended)
	for range 100 {
		if connection, err := net.Dial("tcp", c.address); err == nil {
			return connection.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%s does not serve; see %s.log", c.name, c.name)
}

func (c *child) end(how os.Signal) {
	if c.cmd != nil && c.cmd.Process != nil {
		_ = c.cmd.Process.Signal(how)
		<-c.ended
	}
}

// readers is how many streams the node has.
func (c *child) readers() int {
	resp, err := http.Get("http://" + c.admin + "/poll_sse/sources")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	var rows []struct {
		Subscribers int `json:"subscribers"`
	}
	_ = json.NewDecoder(resp.Body).Decode(&rows)
	all := 0
	for _, r := range rows {
		all += r.Subscribers
	}
	return all
}

// freeAddress is one on this machine that nobody listens at.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func run() error {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	store, err := os.MkdirTemp("", "poll_sse")
	if err != nil {
		return err
	}
	defer os.RemoveAll(store)
	engine, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: store, NoSigs: true, NoLog: true})
	if err != nil {
		return err
	}
	engine.Start()
	defer engine.Shutdown()
	if !engine.ReadyForConnections(10 * time.Second) {
		return errors.New("nats-server is not ready")
	}
	api, err := freeAddress()
	if err != nil {
		return err
	}
	var nodes []*child
	var addresses []string
	for _, name := range []string{"a", "b", "c"} {
		n := &child{name: name}
		if n.address, err = freeAddress(); err == nil {
			n.admin, err = freeAddress()
		}
		if err != nil {
			return err
		}
		nodes, addresses = append(nodes, n), append(addresses, n.address)
	}
	start := func(n *child) error {
		return n.start("node.caddyfile", "ADMIN="+n.admin, "NODE_PORT="+n.address[strings.LastIndex(n.address, ":")+1:], "NATS="+engine.ClientURL(), "API=http://"+api)
	}
	balancer := &child{name: "balancer", address: "localhost:" + port}
	defer balancer.end(syscall.SIGTERM)
	if err := balancer.start("balancer.caddyfile", "PORT="+port, "NODES="+strings.Join(addresses, " "), "API="+api); err != nil {
		return err
	}
	var mu sync.Mutex // of the nodes' processes
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		for _, n := range nodes {
			n.end(syscall.SIGTERM)
		}
	}()
	for _, n := range nodes {
		if err := start(n); err != nil {
			return err
		}
	}
	fmt.Printf("Open http://localhost:%s/, then press Enter: the node that the page is on is killed. Ctrl-C ends it all.\n", port)

	lines := make(chan struct{})
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- struct{}{}
		}
	}()
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, os.Interrupt, syscall.SIGTERM)
	for {
		select {
		case <-quit:
			return nil
		case <-lines:
		}
		most := nodes[0]
		for _, n := range nodes {
			if n.readers() > most.readers() {
				most = n
			}
		}
		mu.Lock()
		most.end(os.Kill)
		fmt.Printf("%s is dead; it comes back in 5 seconds.\n", most.name)
		mu.Unlock()
		time.AfterFunc(5*time.Second, func() {
			mu.Lock()
			defer mu.Unlock()
			if err := start(most); err != nil {
				fmt.Println(err)
				return
			}
			fmt.Printf("%s is back.\n", most.name)
		})
	}
}
