package queue

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// model is the dispatcher without any data structure: it looks at everything, every time.
type model struct {
	now       time.Time
	jobs      map[types.UID]*modelJob
	queues    map[string]Queue
	tenants   map[string]Tenant
	fanOuts   map[string]FanOut
	perTenant map[string]int32
	backoff   map[string]time.Time
	starts    map[string][]time.Time

	lines   map[lineKey]*modelLine
	virtual map[string]int64
	turns   map[string]uint64
	turn    uint64
	counts  map[slot]int
}

type lineKey struct{ queue, tenant string }

type modelLine struct {
	tag   int64
	turn  uint64
	ready int
}

type modelJob struct {
	Job
	holds, isDue, replacing bool
	started                 time.Time
	waited                  time.Duration
}

func newModel(now time.Time) *model {
	return &model{
		now: now, jobs: map[types.UID]*modelJob{},
		queues:  map[string]Queue{v1alpha1.DefaultQueue: {Name: v1alpha1.DefaultQueue}},
		tenants: map[string]Tenant{}, fanOuts: map[string]FanOut{}, perTenant: map[string]int32{},
		backoff: map[string]time.Time{}, starts: map[string][]time.Time{},
		lines: map[lineKey]*modelLine{}, virtual: map[string]int64{}, turns: map[string]uint64{},
	}
}

// forget what does not survive a restart.
func (m *model) forget() {
	m.lines, m.virtual, m.turns, m.turn = map[lineKey]*modelLine{}, map[string]int64{}, map[string]uint64{}, 0
	for _, j := range m.jobs {
		j.replacing = false
	}
}

// slot is what a running job counts against.
type slot struct{ kind, name, tenant string }

func (j *modelJob) slots() []slot {
	return []slot{{"queue", j.Queue, ""}, {"queue", j.Queue, j.Tenant}, {"tenant", j.Tenant, ""},
		{"template", j.Template, j.Tenant}, {"fan-out", j.FanOut, ""}, {"schedule", j.Schedule, j.Tenant}}
}

// count the slots that are held. They are counted anew after every change.
func (m *model) count(of slot) int {
	if m.counts == nil {
		m.counts = map[slot]int{}
		for _, j := range m.jobs {
			if j.holds {
				for _, s := range j.slots() {
					m.counts[s]++
				}
			}
		}
	}
	return m.counts[of]
}

func (m *model) earlier(j *modelJob) []types.UID {
	var uids []types.UID
	for _, o := range m.jobs {
		if o.holds && j.Schedule != "" && o.Schedule == j.Schedule && o.Tenant == j.Tenant {
			uids = append(uids, o.UID)
		}
	}
	slices.Sort(uids)
	return uids
}

func (m *model) overlaps(j *modelJob) bool {
	return j.Schedule != "" && j.Overlap != v1alpha1.ConcurrencyAllow && m.count(slot{"schedule", j.Schedule, j.Tenant}) > 0
}

func (j *modelJob) isReady() bool { return !j.holds && j.Held == "" && j.isDue && !j.replacing }

func full(limit int32, running int) bool { return limit > 0 && running >= int(limit) }

// held lists everything that keeps a job from starting.
func (m *model) held(j *modelJob) []Kind {
	var kinds []Kind
	add := func(held bool, k Kind) {
		if held {
			kinds = append(kinds, k)
		}
	}
	tenant, known := m.tenants[j.Tenant]
	q, isQueue := m.queues[j.Queue]
	add(j.Held != "", HeldByItself)
	add(!j.isDue, HeldByTime)
	add(!known || tenant.Held != "", HeldByTenant)
	add(j.replacing, HeldByReplaced)
	f, isFanOut := m.fanOuts[j.FanOut]
	if j.FanOut != "" {
		add(!isFanOut || f.Held != "", HeldByFanOut)
		add(isFanOut && f.Held == "" && j.Wave > f.OpenWave, HeldByWave)
	}
	add(!isQueue, HeldByNoQueue)
	add(q.Suspended, HeldByQueue)
	if j.FanOut != "" {
		add(full(f.MaxConcurrent, m.count(slot{"fan-out", j.FanOut, ""})), HeldByFullFanOut)
	}
	add(full(m.perTenant[j.Template], m.count(slot{"template", j.Template, j.Tenant})), HeldByTemplate)
	add(full(tenant.MaxConcurrent, m.count(slot{"tenant", j.Tenant, ""})), HeldByFullTenant)
	add(full(q.MaxConcurrentPerTenant, m.count(slot{"queue", j.Queue, j.Tenant})), HeldByShare)
	add(m.backoff[j.Tenant].After(m.now), HeldByBackoff)
	add(full(q.MaxConcurrent, m.count(slot{"queue", j.Queue, ""})), HeldByFullQueue)
	add(full(q.StartsPerMinute, m.lastMinute(j.Queue)), HeldByRate)
	return kinds
}

func (m *model) lastMinute(queue string) int {
	n := 0
	for _, t := range m.starts[queue] {
		if m.now.Sub(t) < time.Minute {
			n++
		}
	}
	return n
}

// decidable says whether a job that these hold is decided about when its turn comes: it can start, or it overlaps and
// would take no slot of its tenant.
func (m *model) decidable(j *modelJob, held []Kind) bool {
	overlaps := m.overlaps(j)
	return !slices.ContainsFunc(held, func(k Kind) bool {
		return !overlaps || k != HeldByTemplate && k != HeldByFullTenant && k != HeldByShare
	})
}

func (m *model) clockRuns(held []Kind) bool {
	return !slices.ContainsFunc(held, func(k Kind) bool { return !(Hold{Kind: k}).Counts() })
}

// expired says whether a job has waited for its MaxWait.
func (m *model) expired(j *modelJob) bool {
	return !j.holds && j.MaxWait > 0 && j.waited >= j.MaxWait && m.clockRuns(m.held(j))
}

// next is the job that is decided about next, nil if there is none.
func (m *model) next() *modelJob {
	var best *modelJob
	for _, j := range m.jobs {
		if !j.holds && m.decidable(j, m.held(j)) && (best == nil || m.before(j, best)) {
			best = j
		}
	}
	return best
}

func (m *model) before(a, b *modelJob) bool {
	la, lb := m.lines[lineKey{a.Queue, a.Tenant}], m.lines[lineKey{b.Queue, b.Tenant}]
	priorities := []v1alpha1.JobPriority{v1alpha1.PriorityHigh, v1alpha1.PriorityMedium, v1alpha1.PriorityLow}
	return cmp.Or(
		cmp.Compare(m.turns[a.Queue], m.turns[b.Queue]), cmp.Compare(a.Queue, b.Queue),
		cmp.Compare(la.tag, lb.tag), cmp.Compare(la.turn, lb.turn),
		cmp.Compare(slices.Index(priorities, a.Priority), slices.Index(priorities, b.Priority)),
		a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID),
	) < 0
}

func (m *model) start(j *modelJob) {
	l := m.lines[lineKey{j.Queue, j.Tenant}]
	m.virtual[j.Queue] = max(m.virtual[j.Queue], l.tag)
	l.tag = m.virtual[j.Queue] + costOf(m.tenants[j.Tenant].Weight)
	m.turn += 2
	l.turn, m.turns[j.Queue] = m.turn-1, m.turn
	j.holds, j.started = true, m.now
	m.starts[j.Queue] = append(m.starts[j.Queue], m.now)
	m.settle()
}

// settle brings lines into play that have become ready.
func (m *model) settle() {
	m.counts = nil
	for _, j := range m.jobs {
		if j.replacing && len(m.earlier(j)) == 0 {
			j.replacing = false
		}
	}
	ready := map[lineKey]int{}
	for _, j := range m.jobs {
		k := lineKey{j.Queue, j.Tenant}
		if m.lines[k] == nil {
			m.lines[k] = &modelLine{}
		}
		if j.isReady() {
			ready[k]++
		}
	}
	for k, l := range m.lines {
		if l.ready == 0 && ready[k] > 0 {
			l.tag = max(l.tag, m.virtual[k.queue])
			m.turn++
			l.turn = m.turn
		}
		l.ready = ready[k]
	}
}

func (m *model) advance(now time.Time) {
	for _, j := range m.jobs {
		if !j.holds && m.clockRuns(m.held(j)) {
			j.waited += now.Sub(m.now)
		}
	}
	m.now = now
	var due []*modelJob
	for _, j := range m.jobs {
		if !j.holds && !j.isDue && !j.NotBefore.After(now) {
			due = append(due, j)
		}
	}
	slices.SortFunc(due, func(a, b *modelJob) int {
		return cmp.Or(a.NotBefore.Compare(b.NotBefore), cmp.Compare(a.UID, b.UID))
	})
	for _, j := range due {
		j.isDue = true
		m.settle()
	}
}

func (m *model) put(j Job) {
	if old := m.jobs[j.UID]; old == nil {
		m.jobs[j.UID] = &modelJob{Job: j, waited: j.Waited}
	} else if old.holds {
		return
	} else {
		old.Job = j
	}
	m.jobs[j.UID].isDue = !j.NotBefore.After(m.now)
	m.settle()
}

func (m *model) back(uid types.UID) {
	j := m.jobs[uid]
	if i := slices.Index(m.starts[j.Queue], j.started); i >= 0 {
		m.starts[j.Queue] = slices.Delete(m.starts[j.Queue], i, i+1)
	}
	j.holds, j.isDue = false, !j.NotBefore.After(m.now)
	m.settle()
}

func (m *model) remove(uid types.UID) {
	delete(m.jobs, uid)
	m.settle()
}

func (m *model) setWeight(t Tenant) {
	old := m.tenants[t.Name]
	for k, l := range m.lines {
		if ahead := l.tag - m.virtual[k.queue]; k.tenant == t.Name && ahead > 0 {
			l.tag = m.virtual[k.queue] + ahead*costOf(t.Weight)/costOf(old.Weight)
		}
	}
	m.tenants[t.Name] = t
}
