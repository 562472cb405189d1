package fanouts

import (
	"sync"
	"sync/atomic"
)

// mostAtOnce is how many requests for a fan-out's children are under way at once, at most. On a machine with full cores
// many at once are cheaper, since less goes into changing between processes: by turns on one control plane, 64 made a tenth
// more starts a second than 32, these a tenth more than 12, and 128 next to none more. The Job controller has up to 500.
const mostAtOnce = 64

// width is how many requests the API server is trusted with at once: one at first, twice as many each time that all went
// well, up to mostAtOnce, and one again when something went wrong. So an API server in trouble gets few. It follows
// slowStartBatch of the Job controller.
type width struct{ atOnce int }

// do does n things, in order as far as they are not done at once. It stops after the first error, and when it is enough.
func (w *width) do(n int, enough func() bool, do func(n int) error) error {
	for next := 0; next < n && !enough(); {
		w.atOnce = min(max(1, w.atOnce), mostAtOnce)
		until := min(n, next+w.atOnce)
		if w.atOnce == mostAtOnce {
			until = n
		}
		if err := inParallel(next, until, w.atOnce, enough, do); err != nil {
			w.atOnce = 1
			return err
		}
		w.atOnce *= 2
		next = until
	}
	return nil
}

// inParallel does the things from one until another, so many at once.
func inParallel(from, until, atOnce int, enough func() bool, do func(n int) error) error {
	var (
		next   atomic.Int64
		failed atomic.Bool
		first  error
		once   sync.Once
		wg     sync.WaitGroup
	)
	next.Store(int64(from))
	for range min(atOnce, until-from) {
		wg.Go(func() {
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= until || i >= from+atOnce && enough() {
					return
				}
				if err := do(i); err != nil {
					failed.Store(true)
					once.Do(func() { first = err })
				}
			}
		})
	}
	wg.Wait()
	return first
}
