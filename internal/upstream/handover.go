package upstream

import (
	"context"
	"encoding/json"
	"time"
)

// handover is how far a client has read, for a client of the same request on
// another node. No URL is in it: it may hold a secret.
type handover struct {
	ETag         string            `json:"etag,omitempty"`
	LastModified string            `json:"last_modified,omitempty"`
	Fresh        time.Duration     `json:"fresh,omitempty"`
	NoStore      bool              `json:"no_store,omitempty"`
	Success      time.Time         `json:"success,omitzero"`
	Values       map[string]string `json:"values,omitempty"`
	List         []handoverItem    `json:"list,omitempty"`
}

type handoverItem struct {
	Key  string          `json:"key"`
	Text json.RawMessage `json:"text"`
}

// Progress returns how far the client has read, as JSON, for [Client.Resume] on
// another node. The values of since parameters and the items that Append keeps
// may hold what is not published, so only raw makes them part of it. Without
// them, the other client starts afresh with both.
func (c *Client) Progress(raw bool) []byte {
	p := c.committed
	h := handover{Fresh: p.fresh, NoStore: p.noStore, Success: p.success}
	// Validators of a URL that a redirect or a since parameter led to stay
	// here: that URL would have to be sent, too.
	if p.validators.url != "" && p.validators.url == c.plainURL() {
		h.ETag, h.LastModified = p.validators.etag, p.validators.lastModified
	}
	if raw {
		h.Values = p.values
		for _, it := range p.list {
			h.List = append(h.List, handoverItem{it.key, it.text})
		}
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil // an item is not JSON: the other client starts afresh
	}
	return text
}

// Resume goes on from what Progress of another client has returned. The
// document that it has published must be what this node shows: the upstream
// may answer that it has not changed. What cannot be read is ignored.
func (c *Client) Resume(progress []byte) {
	var h handover
	if json.Unmarshal(progress, &h) != nil {
		return
	}
	p := &c.committed
	p.fresh, p.noStore, p.success, p.values = h.Fresh, h.NoStore, h.Success, h.Values
	if h.ETag != "" || h.LastModified != "" {
		p.validators = validators{c.plainURL(), h.ETag, h.LastModified}
	}
	p.list = nil
	for _, it := range h.List {
		p.list = append(p.list, item{it.Key, it.Text})
	}
}

// plainURL returns the URL of a request without since parameters. It is empty if
// there are such parameters, or if the URL is not valid.
func (c *Client) plainURL() string {
	if len(c.reading.Since) > 0 {
		return ""
	}
	req, err := c.request.build(context.Background(), c.committed.success)
	if err != nil {
		return ""
	}
	return req.URL.String()
}
