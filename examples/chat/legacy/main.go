// Command legacy is a chat API as there are many: a list that can be asked for,
// and a POST that adds to it. It keeps the last 100 messages in memory.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

type message struct {
	ID   int       `json:"id"`
	At   time.Time `json:"at"`
	From string    `json:"from"`
	Text string    `json:"text"`
}

// Bounds of the chat.
const (
	maxMessages = 100
	maxBody     = 8 << 10
	maxText     = 1000
	maxName     = 40
)

type chat struct {
	mu       sync.Mutex
	last     int
	messages []message
}

func (c *chat) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		c.mu.Lock()
		text, err := json.Marshal(map[string]any{"messages": c.messages})
		c.mu.Unlock()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(text)
	case http.MethodPost:
		var m message
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&m); err != nil {
			http.Error(w, "need a JSON object with from and text", http.StatusBadRequest)
			return
		}
		m.From, m.Text = strings.TrimSpace(m.From), strings.TrimSpace(m.Text)
		if m.From == "" || m.Text == "" || utf8.RuneCountInString(m.From) > maxName || utf8.RuneCountInString(m.Text) > maxText {
			http.Error(w, "need a name of at most 40 and a text of at most 1000 characters", http.StatusBadRequest)
			return
		}
		c.add(m)
		w.WriteHeader(http.StatusCreated)
	default:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "GET and POST only", http.StatusMethodNotAllowed)
	}
}

func (c *chat) add(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	m.ID, m.At = c.last, time.Now().UTC().Truncate(time.Millisecond)
	c.messages = append(c.messages, m)
	if extra := len(c.messages) - maxMessages; extra > 0 {
		c.messages = c.messages[extra:]
	}
}

func main() {
	address := flag.String("listen", "localhost:8081", "address to listen on")
	flag.Parse()
	c := &chat{messages: []message{}}
	c.add(message{From: "Server", Text: "Welcome. Open this page in a second browser, and write to yourself."})
	mux := http.NewServeMux()
	mux.Handle("/messages", c)
	log.Printf("messages at http://%s/messages", *address)
	log.Fatal(http.ListenAndServe(*address, mux))
}
