package inspect

import (
	"bufio"
	"io"
	"strings"
	"time"
)

// event is an event or a comment of a stream. Its data is kept up to a bound,
// as only states are read.
type event struct {
	at      time.Time
	comment string // without the colon; an event then has no name
	name    string
	id      string
	size    int // of the data
	data    string
}

// maxData is how much of an event's data is kept, in bytes: more than a state.
const maxData = 512

// readEvents reads an event stream, section 9.2.6 of the HTML standard, and
// calls do with each event and comment. It returns when the stream ends.
func readEvents(r io.Reader, do func(event)) error {
	lines := bufio.NewReaderSize(r, 4<<10)
	var e event
	name := "message"
	for {
		line, size, err := readLine(lines)
		if err != nil {
			return err
		}
		field, value, _ := strings.Cut(line, ":")
		trimmed := strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if e.size > 0 || e.data != "" {
				e.at, e.name = time.Now(), name
				do(e)
			}
			e, name = event{}, "message"
		case field == "":
			do(event{at: time.Now(), comment: trimmed})
		case field == "event":
			name = trimmed
		case field == "id":
			e.id = trimmed
		case field == "data":
			e.size += max(0, size-len("data: "))
			if len(e.data) < maxData {
				e.data += trimmed
			}
		}
	}
}

// readLine reads one line and returns its start and its whole size.
func readLine(r *bufio.Reader) (start string, size int, err error) {
	var kept []byte
	for {
		part, err := r.ReadSlice('\n')
		size += len(part)
		if room := maxData + 16 - len(kept); room > 0 {
			kept = append(kept, part[:min(len(part), room)]...)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return "", 0, err
		}
		line := strings.TrimRight(string(kept), "\r\n")
		return line, size - 1, nil
	}
}
