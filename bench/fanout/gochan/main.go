// Command gochan is how a Go server is usually written: net/http, and a
// goroutine and a channel for each client.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
	"sync"
)

var (
	mu      sync.Mutex
	clients = map[chan []byte]bool{}
)

func main() {
	http.HandleFunc("GET /sub", subscribe)
	http.HandleFunc("POST /pub", publish)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}

func subscribe(w http.ResponseWriter, r *http.Request) {
	c := make(chan []byte, 16)
	mu.Lock()
	clients[c] = true
	mu.Unlock()
	defer func() {
		mu.Lock()
		delete(clients, c)
		mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, ":\n\n")
	rc := http.NewResponseController(w)
	for rc.Flush() == nil {
		select {
		case b := <-c:
			if _, err := w.Write(b); err != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

func publish(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	event := append(append([]byte("data: "), body...), "\n\n"...)
	mu.Lock()
	defer mu.Unlock()
	for c := range clients {
		select {
		case c <- event:
		default:
		}
	}
	w.WriteHeader(http.StatusNoContent)
}
