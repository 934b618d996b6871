package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"slices"
	"strings"
)

// shape is one pair of documents, a row of the table.
type shape struct {
	name     string
	old, new []byte
	key      string  // member that identifies array elements, for peers that must be told
	goal     float64 // times faster than the best exact peer; 0 where none is set
	quality  float64 // the same against exact peers with a patch at most 1.25 times as large
}

// shapes makes the documents of issue 3's table. They are the same on every
// run. The goals are what the probe reached there, less a fifth.
func shapes() []shape {
	var all []shape
	add := func(name, key string, probe, quality float64, old, new string) {
		all = append(all, shape{name, []byte(old), []byte(new), key, probe * 0.8, quality * 0.8})
	}

	quotes := newQuotes(640)
	stations := newStations(2105)
	large := newRows(20_900)
	for _, s := range []struct{ name, text string }{
		{"unchanged, quotes", quotes.text()}, {"unchanged, stations", stations.text()}, {"unchanged, 4.4 MB", large.text()},
	} {
		add(s.name, "", 1, 0, s.text, s.text)
	}
	add("quotes, 1 % of rows", "symbol", 40, 1218, quotes.text(), quotes.tick(6).text())
	add("quotes, 10 % of rows", "symbol", 21, 501, quotes.text(), quotes.tick(64).text())
	add("stations, 4 % of counts", "station_id", 23, 23, stations.text(), stations.counts(336).text())
	add("stations, every timestamp", "station_id", 15, 15, stations.text(), stations.timestamps().text())

	chat := newChat(102)
	add("chat, append and drop", "id", 162, 202, list(chat[:100]), list(chat[2:]))
	add("chat, prepend", "id", 162, 202, list(chat[1:101]), list(chat[:101]))
	feed := newChat(110)
	add("event feed, new at the head", "id", 49, 49, list(feed[10:]), list(feed[:100]))

	quakes := newQuakes(1840)
	add("earthquakes", "id", 293, 3351, quakes.text(), quakes.next().text())
	jobs := newJobs(590)
	add("map of jobs", "", 15, 15, jobs.text(), jobs.next().text())
	movies := newMovies(5380)
	add("movies without id, 1 %", "", 161, 3645, list(movies), list(editMovies(movies)))
	countries := newCountries(298)
	add("countries, pretty", "code", 70, 70, pretty(countries), pretty(strings.Replace(strings.Replace(countries, `"population":1`, `"population":2`, 1), `"area":7`, `"area":8`, 1)))

	add("4.4 MB, one leaf", "id", 47, 0, large.text(), large.leaf().text())
	add("4.4 MB, head insert", "id", 185, 0, large.text(), "["+`{"id":99999999,"name":"first"},`+large.text()[1:])
	add("4.4 MB, 1 %", "id", 22, 0, large.text(), large.edit(209).text())

	board := newBoard(240)
	add("leaderboard, moves", "id", 6, 40, board.text(false), board.play(8).text(false))
	add("leaderboard, ranks", "id", 6, 40, board.text(true), board.play(8).text(true))
	add("time series, shifted", "", 39, 153, series(0), series(1))
	add("whole replacement", "symbol", 8, 19, newQuotes(1100).text(), newOther(1100))
	add("reformatted", "station_id", 2.4, 0, pretty(stations.text()), stations.text())
	add("keys shuffled", "station_id", 1.25, 0, stations.text(), shuffleKeys(stations.text()))
	return all
}

func list(items []string) string { return "[" + strings.Join(items, ",") + "]" }

func pretty(text string) string {
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(text), "", "  "); err != nil {
		panic("BUG: " + err.Error())
	}
	return b.String()
}

func cents(n int) string { return fmt.Sprintf("%d.%02d", n/100, n%100) }

const words = "amber basalt cedar delta ember fjord garnet harbor indigo juniper kelp lagoon meadow nickel opal prairie quartz ridge slate tundra umber valley willow zenith"

func phrase(r *rand.Rand, n int) string {
	w := strings.Fields(words)
	s := make([]string, n)
	for i := range s {
		s[i] = w[r.Intn(len(w))]
	}
	return strings.Join(s, " ")
}

// quotes: a list of rows with a symbol, of which a tick changes several members.
type quotes struct {
	r    *rand.Rand
	rows [][5]int
}

func newQuotes(n int) quotes {
	q := quotes{rand.New(rand.NewSource(1)), make([][5]int, n)}
	for i := range q.rows {
		p := 1000 + q.r.Intn(50_000)
		q.rows[i] = [5]int{p, p - 3, p + 3, q.r.Intn(1_000_000), 1_700_000_000_000 + i}
	}
	return q
}

func (q quotes) tick(n int) quotes {
	rows := slices.Clone(q.rows)
	for _, i := range q.r.Perm(len(rows))[:n] {
		d := q.r.Intn(400) - 200
		rows[i][0] += d
		rows[i][1] += d
		rows[i][2] += d
		rows[i][3] += q.r.Intn(1000) + 1
		rows[i][4] += 1500
	}
	return quotes{q.r, rows}
}

func (q quotes) text() string {
	rows := make([]string, len(q.rows))
	for i, v := range q.rows {
		rows[i] = fmt.Sprintf(`{"symbol":"S%04d","name":"%s","price":%s,"bid":%s,"ask":%s,"volume":%d,"currency":"USD","time":%d}`,
			i, strings.Fields(words)[i%24]+" Inc", cents(v[0]), cents(v[1]), cents(v[2]), v[3], v[4])
	}
	return list(rows)
}

// newOther has quotes' shape and not a value in common with it.
func newOther(n int) string {
	r := rand.New(rand.NewSource(2))
	rows := make([]string, n)
	for i := range rows {
		p := 60_000 + r.Intn(50_000)
		rows[i] = fmt.Sprintf(`{"symbol":"T%04d","name":"%s","price":%s,"bid":%s,"ask":%s,"volume":%d,"currency":"EUR","time":%d}`,
			i, phrase(r, 1)+" Ltd", cents(p), cents(p-4), cents(p+4), 2_000_000+r.Intn(1_000_000), 1_800_000_000_000+i)
	}
	return list(rows)
}

// stations: the station_status document of a bike share.
type stations struct {
	r       *rand.Rand
	updated int
	rows    [][5]int
}

func newStations(n int) stations {
	s := stations{rand.New(rand.NewSource(3)), 1_700_000_000, make([][5]int, n)}
	for i := range s.rows {
		s.rows[i] = [5]int{s.r.Intn(30), s.r.Intn(10), s.r.Intn(3), s.r.Intn(30), s.updated - s.r.Intn(600)}
	}
	return s
}

func (s stations) counts(n int) stations {
	rows := slices.Clone(s.rows)
	for range n {
		v := &rows[s.r.Intn(len(rows))][s.r.Intn(4)]
		*v = (*v + 1 + s.r.Intn(5)) % 40
	}
	return stations{s.r, s.updated + 10, rows}
}

func (s stations) timestamps() stations {
	rows := slices.Clone(s.rows)
	for i := range rows {
		rows[i][4] += 60 + s.r.Intn(60)
	}
	return stations{s.r, s.updated + 60, rows}
}

func (s stations) text() string {
	rows := make([]string, len(s.rows))
	for i, v := range s.rows {
		rows[i] = fmt.Sprintf(`{"station_id":"%d","num_bikes_available":%d,"num_ebikes_available":%d,"num_bikes_disabled":%d,"num_docks_available":%d,"num_docks_disabled":0,"is_installed":1,"is_renting":1,"is_returning":1,"last_reported":%d}`,
			72+i*13, v[0], v[1], v[2], v[3], v[4])
	}
	return fmt.Sprintf(`{"last_updated":%d,"ttl":5,"version":"2.3","data":{"stations":%s}}`, s.updated, list(rows))
}

// newChat gives messages, newest first.
func newChat(n int) []string {
	r := rand.New(rand.NewSource(4))
	items := make([]string, n)
	for i := range items {
		id := 900_000 - i
		items[i] = fmt.Sprintf(`{"id":%d,"user":{"id":%d,"name":"%s"},"text":"%s","time":"2026-01-02T%02d:%02d:%02dZ","reactions":[],"edited":%t}`,
			id, r.Intn(500), phrase(r, 2), phrase(r, 24+r.Intn(18)), id/3600%24, id/60%60, id%60, r.Intn(9) == 0)
	}
	return items
}

// quakes: a GeoJSON feed, newest first.
type quakes struct {
	r         *rand.Rand
	generated int
	features  []string
}

func newQuakes(n int) quakes {
	q := quakes{rand.New(rand.NewSource(5)), 1_700_000_000_000, nil}
	for i := range n {
		q.features = append(q.features, q.feature(n-i))
	}
	return q
}

func (q quakes) feature(i int) string {
	r := q.r
	at := 1_690_000_000_000 + i*123_457
	id := fmt.Sprintf("nc%08d", 73_000_000+i*5)
	return fmt.Sprintf(`{"type":"Feature","properties":{"mag":%s,"place":"%d km NW of %s, CA","time":%d,"updated":%d,"tz":null,"url":"https://earthquake.example/earthquakes/eventpage/%s","detail":"https://earthquake.example/earthquakes/feed/v1.0/detail/%s.geojson","felt":null,"cdi":null,"mmi":null,"alert":null,"status":"automatic","tsunami":0,"sig":%d,"net":"nc","code":"%s","ids":",%s,","sources":",nc,","types":",nearby-cities,origin,phase-data,","nst":%d,"dmin":0.0%d,"rms":0.%d,"gap":%d,"magType":"md","type":"earthquake","title":"M - %s"},"geometry":{"type":"Point","coordinates":[-122.%04d,38.%04d,%s]},"id":"%s"}`,
		cents(100+r.Intn(300)), r.Intn(30), phrase(r, 1), at, at+90_000, id, id, r.Intn(100), id[2:], id, 5+r.Intn(30), 1+r.Intn(8), 1+r.Intn(8), 30+r.Intn(200), phrase(r, 3), r.Intn(10_000), r.Intn(10_000), cents(r.Intn(1000)), id)
}

func (q quakes) next() quakes {
	f := slices.Clone(q.features)
	for _, i := range []int{4, 37, 500} {
		f[i] = strings.Replace(f[i], `"status":"automatic"`, `"status":"reviewed"`, 1)
		f[i] = strings.Replace(f[i], `"felt":null`, `"felt":3`, 1)
	}
	f = append([]string{q.feature(1902), q.feature(1901), q.feature(1900)}, f[:len(f)-4]...)
	return quakes{q.r, q.generated + 60_000, f}
}

func (q quakes) text() string {
	return fmt.Sprintf(`{"type":"FeatureCollection","metadata":{"generated":%d,"url":"https://earthquake.example/all_week.geojson","title":"All Earthquakes, Past Week","status":200,"api":"1.10.3","count":%d},"features":%s}`,
		q.generated, len(q.features), list(q.features))
}

// jobs: an object of objects, by id.
type jobs struct {
	r     *rand.Rand
	ids   []int
	state []string
	done  []int
}

func newJobs(n int) jobs {
	j := jobs{r: rand.New(rand.NewSource(6))}
	for i := range n {
		j.ids = append(j.ids, i)
		j.state = append(j.state, []string{"queued", "running", "done"}[j.r.Intn(3)])
		j.done = append(j.done, j.r.Intn(100))
	}
	return j
}

func (j jobs) next() jobs {
	k := jobs{j.r, slices.Clone(j.ids), slices.Clone(j.state), slices.Clone(j.done)}
	for _, i := range k.r.Perm(len(k.ids))[:16] {
		k.done[i]++
		k.state[i] = "running"
	}
	k.ids, k.state, k.done = k.ids[1:], k.state[1:], k.done[1:]
	k.ids, k.state, k.done = append(k.ids, 7001), append(k.state, "queued"), append(k.done, 0)
	return k
}

func (j jobs) text() string {
	rows := make([]string, len(j.ids))
	for i, id := range j.ids {
		rows[i] = fmt.Sprintf(`"job-%06x":{"state":"%s","progress":%d,"owner":"%s","queue":"default","attempts":1,"created":%d,"tags":["batch","%s"],"error":null}`,
			0xa10000+id*77, j.state[i], j.done[i], strings.Fields(words)[id*7%24], 1_700_000_000+id*31, strings.Fields(words)[id%24])
	}
	return "{" + strings.Join(rows, ",") + "}"
}

func newMovies(n int) []string {
	r := rand.New(rand.NewSource(7))
	items := make([]string, n)
	for i := range items {
		cast := make([]string, 2+r.Intn(4))
		for k := range cast {
			cast[k] = `"` + phrase(r, 2) + `"`
		}
		items[i] = fmt.Sprintf(`{"title":"%s","year":%d,"cast":%s,"genres":["%s","%s"],"rating":%d.%d,"votes":%d,"plot":"%s"}`,
			phrase(r, 1+r.Intn(3)), 1920+r.Intn(100), list(cast), phrase(r, 1), phrase(r, 1), r.Intn(10), 1+r.Intn(9), r.Intn(100_000), phrase(r, 8+r.Intn(9)))
	}
	return items
}

// editMovies changes the votes of 1 % of the rows, drops one and inserts one.
func editMovies(items []string) []string {
	r := rand.New(rand.NewSource(8))
	items = slices.Clone(items)
	for _, i := range r.Perm(len(items))[:len(items)/100] {
		at := strings.Index(items[i], `"votes":`) + len(`"votes":`)
		end := at + strings.IndexByte(items[i][at:], ',')
		items[i] = items[i][:at] + fmt.Sprint(100_000+r.Intn(900_000)) + items[i][end:]
	}
	items = slices.Delete(items, 4000, 4001)
	return slices.Insert(items, 3, newMovies(1)[0])
}

func newCountries(n int) string {
	r := rand.New(rand.NewSource(9))
	items := make([]string, n)
	for i := range items {
		names := make([]string, 22)
		for k := range names {
			names[k] = fmt.Sprintf(`"%c%c%c":{"official":"%s","common":"%s"}`, 'a'+k, 'a'+i%26, 'a'+i/26, phrase(r, 3), phrase(r, 1))
		}
		items[i] = fmt.Sprintf(`{"name":{"common":"%s","translations":{%s}},"code":"C%03d","capital":["%s"],"borders":["%s","%s"],"area":7%05d,"population":1%07d,"latlng":[%d.5,%d.5],"flags":{"png":"https://flags.example/%d.png","svg":"https://flags.example/%d.svg"},"independent":true,"unMember":true}`,
			phrase(r, 2), strings.Join(names, ","), i, phrase(r, 1), phrase(r, 1), phrase(r, 1), r.Intn(100_000), r.Intn(10_000_000), r.Intn(90), r.Intn(180), i, i)
	}
	return list(items)
}

// rows: a large list of small objects.
type rows struct {
	r    *rand.Rand
	vals []int
}

func newRows(n int) rows {
	v := rows{rand.New(rand.NewSource(10)), make([]int, n)}
	for i := range v.vals {
		v.vals[i] = v.r.Intn(1_000_000)
	}
	return v
}

func (v rows) leaf() rows {
	vals := slices.Clone(v.vals)
	vals[len(vals)/2]++
	return rows{v.r, vals}
}

func (v rows) edit(n int) rows {
	vals := slices.Clone(v.vals)
	for _, i := range v.r.Perm(len(vals))[:n] {
		vals[i] += 1 + v.r.Intn(9)
	}
	return rows{v.r, vals}
}

func (v rows) text() string {
	var b strings.Builder
	w := strings.Fields(words)
	for i, x := range v.vals {
		fmt.Fprintf(&b, `,{"id":%d,"name":"%s %s","address":{"street":"%d %s road","city":"%s","zip":"%05d"},"tags":["%s","%s"],"value":%d,"active":%t,"score":%d.%d,"note":"%s %s %s %s"}`,
			10_000_000+i, w[i%24], w[i/24%24], i%900, w[i*7%24], w[i*5%24], i*37%100_000, w[i*11%24], w[i*13%24], x, i%3 == 0, i%100, 1+i%9, w[i*3%24], w[i*17%24], w[i*19%24], w[i*23%24])
	}
	return "[" + b.String()[1:] + "]"
}

// board: players in the order of their score.
type board struct {
	r       *rand.Rand
	players [][2]int // id, score
}

func newBoard(n int) board {
	b := board{r: rand.New(rand.NewSource(11))}
	for i := range n {
		b.players = append(b.players, [2]int{5000 + i*7%n, 100_000 - i*400})
	}
	return b
}

func (b board) play(n int) board {
	p := slices.Clone(b.players)
	for _, i := range b.r.Perm(len(p))[:n] {
		p[i][1] += 1500 + b.r.Intn(9000)
	}
	slices.SortStableFunc(p, func(x, y [2]int) int { return y[1] - x[1] })
	return board{b.r, p}
}

func (b board) text(rank bool) string {
	items := make([]string, len(b.players))
	for i, p := range b.players {
		n := ""
		if rank {
			n = fmt.Sprintf(`"rank":%d,`, i+1)
		}
		items[i] = fmt.Sprintf(`{%s"id":%d,"name":"%s %d","score":%d,"team":"%s"}`, n, p[0], strings.Fields(words)[p[0]%24], p[0], p[1], strings.Fields(words)[p[0]%5])
	}
	return list(items)
}

// series gives ten windows over time, from step `from` on.
func series(from int) string {
	all := make([]string, 10)
	for k := range all {
		points := make([]string, 50)
		for i := range points {
			at := from + i
			points[i] = fmt.Sprintf("[%d,%s]", 1_700_000_000+at*60, cents((at*7919+k*104_729)%10_000))
		}
		all[k] = fmt.Sprintf(`"cpu%d":%s`, k, list(points))
	}
	return "{" + strings.Join(all, ",") + "}"
}

// shuffleKeys puts every object's members in a random order of its own.
func shuffleKeys(text string) string {
	r := rand.New(rand.NewSource(12))
	var walk func(raw json.RawMessage) string
	walk = func(raw json.RawMessage) string {
		var parts []string
		switch raw[0] {
		case '{':
			dec := json.NewDecoder(bytes.NewReader(raw))
			dec.Token()
			for dec.More() {
				name, _ := dec.Token()
				var v json.RawMessage
				if err := dec.Decode(&v); err != nil {
					panic("BUG: " + err.Error())
				}
				parts = append(parts, fmt.Sprintf("%q:%s", name, walk(v)))
			}
			r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
			return "{" + strings.Join(parts, ",") + "}"
		case '[':
			var items []json.RawMessage
			if err := json.Unmarshal(raw, &items); err != nil {
				panic("BUG: " + err.Error())
			}
			for _, v := range items {
				parts = append(parts, walk(v))
			}
			return list(parts)
		}
		return string(raw)
	}
	return walk(json.RawMessage(text))
}
