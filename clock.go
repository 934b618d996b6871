package pollsse

import "time"

// clockCheck is how often a pause looks at the wall clock.
const clockCheck = 10 * time.Second
