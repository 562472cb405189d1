package queue

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// model decides like State, but without heaps and counters: it goes over all jobs every time.
type model struct {
	now            time.Time
	jobs           map[types.UID]*modelJob
	queues         map[string]Queue
	tenants        map[string]Tenant
	fanOuts        map[string]FanOut
	templateLimits map[string]int32
	backoff        map[string]time.Time
	starts         map[string][]time.Time

	flows       map[flowKey]*modelFlow
	virtualTime map[string]int64
	// queueSequence is the sequence number of each queue's last start.
	queueSequence map[string]uint64
	lastSequence  uint64
	counts        map[slot]int
}

type flowKey struct{ queue, tenant string }

type modelFlow struct {
	startTag int64
	sequence uint64
	ready    int
}

type modelJob struct {
	Job
	holds, isDue, replacing bool
	started                 time.Time
	waited                  time.Duration
	cost                    int64
	turn                    uint64
}

func newModel(now time.Time) *model {
	return &model{
		now: now, jobs: map[types.UID]*modelJob{},
		queues:  map[string]Queue{v1alpha1.DefaultQueue: {Name: v1alpha1.DefaultQueue}},
		tenants: map[string]Tenant{}, fanOuts: map[string]FanOut{}, templateLimits: map[string]int32{},
		backoff: map[string]time.Time{}, starts: map[string][]time.Time{},
		flows: map[flowKey]*modelFlow{}, virtualTime: map[string]int64{}, queueSequence: map[string]uint64{},
	}
}

// forget clears what does not survive a restart.
func (m *model) forget() {
	m.flows, m.virtualTime = map[flowKey]*modelFlow{}, map[string]int64{}
	m.queueSequence, m.lastSequence = map[string]uint64{}, 0
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

// count returns how many jobs hold a slot. settle clears the counts, and they are made again.
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
	add(full(m.templateLimits[j.Template], m.count(slot{"template", j.Template, j.Tenant})), HeldByTemplate)
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

// decidable is true if Next may decide about a job that these hold: it can start, or it overlaps, so that the decision
// takes no slot of its tenant.
func (m *model) decidable(j *modelJob, held []Kind) bool {
	overlaps := m.overlaps(j)
	return !slices.ContainsFunc(held, func(k Kind) bool {
		return !overlaps || k != HeldByTemplate && k != HeldByFullTenant && k != HeldByShare
	})
}

func (m *model) clockRuns(held []Kind) bool {
	return !slices.ContainsFunc(held, func(k Kind) bool { return !(Hold{Kind: k}).CountsAsWait() })
}

// expired is true if a job has waited for its MaxWait.
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
	fa, fb := m.flows[flowKey{a.Queue, a.Tenant}], m.flows[flowKey{b.Queue, b.Tenant}]
	priorities := []v1alpha1.JobPriority{v1alpha1.PriorityHigh, v1alpha1.PriorityMedium, v1alpha1.PriorityLow}
	return cmp.Or(
		cmp.Compare(m.queueSequence[a.Queue], m.queueSequence[b.Queue]), cmp.Compare(a.Queue, b.Queue),
		cmp.Compare(fa.startTag, fb.startTag), cmp.Compare(fa.sequence, fb.sequence),
		cmp.Compare(slices.Index(priorities, a.Priority), slices.Index(priorities, b.Priority)),
		a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID),
	) < 0
}

func (m *model) start(j *modelJob) {
	f := m.flows[flowKey{j.Queue, j.Tenant}]
	m.virtualTime[j.Queue] = max(m.virtualTime[j.Queue], f.startTag)
	j.cost, j.turn = costOf(m.tenants[j.Tenant].Weight), f.sequence
	f.startTag = m.virtualTime[j.Queue] + j.cost
	m.lastSequence += 2
	f.sequence, m.queueSequence[j.Queue] = m.lastSequence-1, m.lastSequence
	j.holds, j.started = true, m.now
	m.starts[j.Queue] = append(m.starts[j.Queue], m.now)
	m.settle()
}

// settle updates what follows from the jobs: their slots, which of them replace runs, and which flows are ready.
func (m *model) settle() {
	m.counts = nil
	for _, j := range m.jobs {
		if j.replacing && len(m.earlier(j)) == 0 {
			j.replacing = false
		}
	}
	ready := map[flowKey]int{}
	for _, j := range m.jobs {
		k := flowKey{j.Queue, j.Tenant}
		if m.flows[k] == nil {
			m.flows[k] = &modelFlow{}
		}
		if j.isReady() {
			ready[k]++
		}
	}
	for k, f := range m.flows {
		if f.ready == 0 && ready[k] > 0 {
			f.startTag = max(f.startTag, m.virtualTime[k.queue])
			m.lastSequence++
			f.sequence = m.lastSequence
		}
		f.ready = ready[k]
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

func (m *model) requeue(uid types.UID) {
	j := m.jobs[uid]
	if i := slices.Index(m.starts[j.Queue], j.started); i >= 0 {
		m.starts[j.Queue] = slices.Delete(m.starts[j.Queue], i, i+1)
	}
	j.holds, j.isDue = false, !j.NotBefore.After(m.now)
	m.settle()
}

func (m *model) revoke(uid types.UID) {
	j := m.jobs[uid]
	f := m.flows[flowKey{j.Queue, j.Tenant}]
	startTag, sequence := f.startTag-j.cost, min(f.sequence, j.turn)
	m.requeue(uid)
	f.startTag, f.sequence = startTag, sequence
}

func (m *model) remove(uid types.UID) {
	delete(m.jobs, uid)
	m.settle()
}

func (m *model) setWeight(t Tenant) {
	old := m.tenants[t.Name]
	for k, f := range m.flows {
		if ahead := f.startTag - m.virtualTime[k.queue]; k.tenant == t.Name && ahead > 0 {
			f.startTag = m.virtualTime[k.queue] + ahead*costOf(t.Weight)/costOf(old.Weight)
		}
	}
	m.tenants[t.Name] = t
}
