package controller

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// cacheOf is a cache with these Jobs, by name and template. An ended one is known and not live.
type cacheOf struct {
	live  map[string]string
	ended map[string]string
	err   error
}

func (c cacheOf) inNamespace(namespace string) ([]batchv1.Job, error) {
	var all []batchv1.Job
	for name, template := range c.live {
		all = append(all, batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{v1alpha1.LabelTemplate: template}}})
	}
	return all, c.err
}

func (c cacheOf) known(key types.NamespacedName) bool {
	_, live := c.live[key.Name]
	_, ended := c.ended[key.Name]
	return live || ended
}

func aRun(name string) *v1alpha1.TenantJob {
	return &v1alpha1.TenantJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-acme", Name: name, UID: types.UID(name)},
		Spec:       v1alpha1.TenantJobSpec{TemplateRef: v1alpha1.LabelReference{Name: "report"}},
	}
}

func anAcme(limit *int32) *v1alpha1.Tenant {
	return &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "acme"}, Spec: v1alpha1.TenantSpec{Jobs: &v1alpha1.TenantJobLimits{MaxConcurrent: limit}}}
}

func aTemplate(name string, limit *int32) *v1alpha1.TenantJobTemplate {
	return &v1alpha1.TenantJobTemplate{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.TenantJobTemplateSpec{MaxConcurrentPerTenant: limit}}
}

// began is a start that ended so.
func began(t *testing.T, s *Starts, name, template string, o Outcome) {
	t.Helper()
	end, hold, err := s.Begin(aRun(name), anAcme(nil), aTemplate(template, nil), cacheOf{})
	if err != nil || hold != (Hold{}) {
		t.Fatal(hold, err)
	}
	end(o)
}

func TestStartsBegin(t *testing.T) {
	const (
		byTenant   = "tenant acme runs at most 2 jobs at once (`spec.jobs.maxConcurrent`)"
		byTemplate = "template report runs at most 1 at once for a tenant (`spec.maxConcurrentPerTenant`)"
	)
	two, one := new(int32(2)), new(int32(1))
	cases := map[string]struct {
		before           func(*testing.T, *Starts)
		cache            cacheOf
		tenant, template *int32
		want             Hold
		wantErr          error
	}{
		"without limits, whatever lives":      {cache: cacheOf{live: map[string]string{"a": "report", "b": "report"}}},
		"without limits, the cache not asked": {cache: cacheOf{err: errors.New("x")}},
		"the cache fails":                     {cache: cacheOf{err: errBroken}, tenant: two, wantErr: errBroken},
		"room in the tenant":                  {cache: cacheOf{live: map[string]string{"a": "report"}}, tenant: two},
		"no room in the tenant":               {cache: cacheOf{live: map[string]string{"a": "report", "b": "other"}}, tenant: two, want: Hold{Limit: byTenant}},
		"no room in the template":             {cache: cacheOf{live: map[string]string{"a": "report"}}, tenant: two, template: one, want: Hold{Limit: byTemplate}},
		"another template's do not count":     {cache: cacheOf{live: map[string]string{"a": "other"}}, template: one},
		"an ended one does not count":         {cache: cacheOf{ended: map[string]string{"a": "report"}}, template: one},
		"one that the cache does not know yet": {
			before: func(t *testing.T, s *Starts) { began(t, s, "a", "report", Made) }, template: one, want: Hold{Limit: byTemplate, Brief: true},
		},
		"one that the cache knows counts once": {
			before: func(t *testing.T, s *Starts) { began(t, s, "a", "report", Made) },
			cache:  cacheOf{live: map[string]string{"a": "report"}}, tenant: two,
		},
		"one that the cache knows to have ended": {
			before: func(t *testing.T, s *Starts) { began(t, s, "a", "report", Made) },
			cache:  cacheOf{ended: map[string]string{"a": "report"}}, template: one,
		},
		"one that was not made": {before: func(t *testing.T, s *Starts) { began(t, s, "a", "report", NotMade) }, template: one},
		"one that may have been made": {
			before: func(t *testing.T, s *Starts) { began(t, s, "a", "report", Unsure) }, template: one, want: Hold{Limit: byTemplate, Brief: true},
		},
		"its own start that may have been made": {before: func(t *testing.T, s *Starts) { began(t, s, "asks", "report", Unsure) }, template: one},
		"one that was forgotten": {
			before: func(t *testing.T, s *Starts) { began(t, s, "a", "report", Made); s.Forget("a") }, template: one,
		},
		"its own start, when the limit was lowered": {
			before: func(t *testing.T, s *Starts) { began(t, s, "asks", "report", Unsure) },
			cache:  cacheOf{live: map[string]string{"a": "report"}}, template: one, want: Hold{Limit: byTemplate, Brief: true},
		},
		"one of another tenant": {
			before: func(_ *testing.T, s *Starts) {
				end, _, _ := s.Begin(aRun("a"), &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "globex"}}, aTemplate("report", nil), cacheOf{})
				end(Made)
			},
			template: one,
		},
		"one in flight": {
			before: func(_ *testing.T, s *Starts) {
				_, _, _ = s.Begin(aRun("a"), anAcme(nil), aTemplate("report", nil), cacheOf{})
			},
			template: one, want: Hold{Limit: byTemplate, Brief: true},
		},
		"the door is shut":        {before: func(_ *testing.T, s *Starts) { s.Close("acme") }, want: Hold{Brief: true}},
		"another's door is shut":  {before: func(_ *testing.T, s *Starts) { s.Close("globex") }},
		"the door is open again":  {before: func(_ *testing.T, s *Starts) { s.Close("acme"); s.Open("acme") }},
		"shut twice, opened once": {before: func(_ *testing.T, s *Starts) { s.Close("acme"); s.Close("acme"); s.Open("acme") }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := NewStarts()
			if tc.before != nil {
				tc.before(t, s)
			}
			end, hold, err := s.Begin(aRun("asks"), anAcme(tc.tenant), aTemplate("report", tc.template), tc.cache)
			mayStart := tc.want == Hold{} && tc.wantErr == nil
			if diff := cmp.Diff(tc.want, hold); diff != "" || !errors.Is(err, tc.wantErr) || (end != nil) != mayStart {
				t.Errorf("Begin: %v, may start: %t (-want, +got):\n%s", err, end != nil, diff)
			}
		})
	}
}

var errBroken = errors.New("broken")

// TestStartsCacheLearnsInBetween: a start counts whenever the cache learns of its Job.
func TestStartsCacheLearnsInBetween(t *testing.T) {
	s := NewStarts()
	began(t, s, "a", "report", Made)
	if _, hold, _ := s.Begin(aRun("asks"), anAcme(nil), aTemplate("report", new(int32(1))), &learns{}); hold.Limit == "" {
		t.Error("a second one may start beside the first")
	}
}

// learns is a cache that learns of the Job after the first question.
type learns struct{ asked bool }

func (l *learns) cache() cacheOf {
	defer func() { l.asked = true }()
	if l.asked {
		return cacheOf{live: map[string]string{"a": "report"}}
	}
	return cacheOf{}
}

func (l *learns) inNamespace(namespace string) ([]batchv1.Job, error) {
	return l.cache().inNamespace(namespace)
}

func (l *learns) known(key types.NamespacedName) bool { return l.cache().known(key) }

func TestStartsMade(t *testing.T) {
	s := NewStarts()
	began(t, s, "made", "report", Made)
	began(t, s, "not-made", "report", NotMade)
	began(t, s, "unsure", "report", Unsure)
	began(t, s, "forgotten", "report", Made)
	s.Forget("forgotten")
	// The TenantJob is deleted while its Job is being made.
	end, _, _ := s.Begin(aRun("deleted"), anAcme(nil), aTemplate("report", nil), cacheOf{})
	s.Forget("deleted")
	end(Made)
	got := map[types.UID]bool{}
	for _, uid := range []types.UID{"made", "not-made", "unsure", "forgotten", "deleted", "never"} {
		got[uid] = s.Made(uid)
	}
	want := map[types.UID]bool{"made": true, "not-made": false, "unsure": false, "forgotten": false, "deleted": false, "never": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Made (-want, +got):\n%s", diff)
	}
}

func TestStartsNext(t *testing.T) {
	two, one := new(int32(2)), new(int32(1))
	cases := map[string]struct {
		before           func(*testing.T, *Starts)
		cache            cacheOf
		tenant, template *int32
		want             []string
	}{
		"no limits":                       {want: []string{"a", "b", "c", "d"}},
		"as many as there is room for":    {tenant: two, want: []string{"a", "b"}},
		"no room":                         {tenant: one, cache: cacheOf{live: map[string]string{"x": "other"}}},
		"past those whose template waits": {tenant: two, template: one, want: []string{"a", "c"}},
		"a template without room":         {template: one, cache: cacheOf{live: map[string]string{"x": "report"}}, want: []string{"c"}},
		"not those that have started": {
			tenant: two, before: func(t *testing.T, s *Starts) { began(t, s, "a", "report", Made) }, want: []string{"b"},
		},
		"not those that another process started": {tenant: two, cache: cacheOf{live: map[string]string{"a": "report"}}, want: []string{"b"}},
		"those that may have started, in their own slot": {
			tenant: two, before: func(t *testing.T, s *Starts) { began(t, s, "a", "report", Unsure) }, want: []string{"a", "b"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := NewStarts()
			if tc.before != nil {
				tc.before(t, s)
			}
			queued := []v1alpha1.TenantJob{*aRun("a"), *aRun("b"), *aRun("c"), *aRun("d")}
			queued[2].Spec.TemplateRef.Name, queued[3].Spec.TemplateRef.Name = "other", "gone"
			templates := map[string]*v1alpha1.TenantJobTemplate{"report": aTemplate("report", tc.template), "other": aTemplate("other", nil), "gone": nil}
			want := tc.want
			if name == "no limits" {
				want = want[:3] // there is no template for the last
			}
			next, err := s.Next(queued, anAcme(tc.tenant), templates, tc.cache)
			var got []string
			for _, tj := range next {
				got = append(got, tj.Name)
			}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("Next: %v (-want, +got):\n%s", err, diff)
			}
		})
	}
}

// TestStartsCloseWaits: whoever lists the Jobs after Close finds all that there will be.
func TestStartsCloseWaits(t *testing.T) {
	s := NewStarts()
	var ends []func(Outcome)
	for _, name := range []string{"a", "b"} {
		end, _, _ := s.Begin(aRun(name), anAcme(nil), aTemplate("report", nil), cacheOf{})
		ends = append(ends, end)
	}
	closed := make(chan struct{})
	go func() {
		s.Close("acme")
		close(closed)
	}()
	for shut := false; !shut; runtime.Gosched() {
		end, _, _ := s.Begin(aRun("late"), anAcme(nil), aTemplate("report", nil), cacheOf{})
		if shut = end == nil; !shut {
			end(NotMade)
		}
	}
	for left := len(ends); left > 0; left-- {
		for range 1000 {
			select {
			case <-closed:
				t.Fatalf("Close returned before %d of %d starts", left, len(ends))
			default:
				runtime.Gosched()
			}
		}
		ends[left-1](Made)
	}
	<-closed
	s.Close("acme") // nothing is in flight
}

// TestStartsNeverExceedTheLimit starts and ends runs from many sides at once, with a cache that is always behind.
func TestStartsNeverExceedTheLimit(t *testing.T) {
	for limit := int32(1); limit <= 3; limit++ {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			s := NewStarts()
			world := &laggingCache{live: map[string]bool{}, seen: map[string]bool{}, over: map[string]bool{}}
			done := make(chan struct{})
			go func() {
				for {
					select {
					case <-done:
						return
					default:
						world.catchUp()
					}
				}
			}()
			defer close(done)
			var all sync.WaitGroup
			for i := range 60 {
				all.Go(func() {
					tj := aRun(fmt.Sprint(i))
					for {
						end, hold, _ := s.Begin(tj, anAcme(&limit), aTemplate("report", nil), world)
						if hold != (Hold{}) {
							runtime.Gosched()
							continue
						}
						if i%7 == 0 { // not every start gets a Job, and who knows
							end([]Outcome{NotMade, Unsure}[i%2])
							s.Forget(tj.UID)
							return
						}
						world.start(tj.Name)
						end(Made)
						world.finish(tj.Name)
						s.Forget(tj.UID)
						return
					}
				})
			}
			all.Wait()
			if world.most > int(limit) || world.most == 0 {
				t.Errorf("%d ran at once, and %d may", world.most, limit)
			}
		})
	}
}

// laggingCache is what there is, and what the cache has seen of it.
type laggingCache struct {
	mu               sync.Mutex
	live, seen, over map[string]bool
	most             int
}

func (c *laggingCache) start(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live[name] = true
	c.most = max(c.most, len(c.live))
}

// finish returns when the cache has seen it.
func (c *laggingCache) finish(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[name] = true
	delete(c.live, name)
	c.over[name] = true
}

func (c *laggingCache) catchUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.live {
		c.seen[name] = true
	}
	for name := range c.over {
		delete(c.seen, name)
	}
}

func (c *laggingCache) inNamespace(string) ([]batchv1.Job, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []batchv1.Job
	for name := range c.seen {
		all = append(all, batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	return all, nil
}

func (c *laggingCache) known(key types.NamespacedName) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[key.Name] || c.over[key.Name]
}
