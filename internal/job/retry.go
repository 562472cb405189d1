package job

import "time"

// longestRetry is after how long something that does not succeed is tried again at most.
const longestRetry = 5 * time.Minute

// RetryAfter returns after how long to try again what has not succeeded since a time: the longer it has not, the later.
func RetryAfter(since, now time.Time) time.Duration {
	return min(max(SettleAfter, now.Sub(since)/4), longestRetry)
}
