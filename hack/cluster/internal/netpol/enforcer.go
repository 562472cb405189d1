package netpol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	netlisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/tenantry/tenantry/hack/cluster/internal/netpol/gate"
)

// Enforcer keeps the kernel's rules at what the cluster's policies ask for.
type Enforcer struct {
	factory    informers.SharedInformerFactory
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   netlisters.NetworkPolicyLister
	log        io.Writer
	changed    chan struct{}

	mu    sync.Mutex
	early map[types.UID]netip.Addr
	last  string
}

// NewEnforcer makes one, which Run starts.
func NewEnforcer(client kubernetes.Interface, log io.Writer) *Enforcer {
	factory := informers.NewSharedInformerFactory(client, 0)
	return &Enforcer{
		factory:    factory,
		pods:       factory.Core().V1().Pods().Lister(),
		namespaces: factory.Core().V1().Namespaces().Lister(),
		policies:   factory.Networking().V1().NetworkPolicies().Lister(),
		log:        log,
		changed:    make(chan struct{}, 1),
		early:      map[types.UID]netip.Addr{},
	}
}

// Run enforces until it can't any more.
func (e *Enforcer) Run(ctx context.Context) error {
	mark := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { e.mark() },
		UpdateFunc: func(_, _ any) { e.mark() },
		DeleteFunc: func(any) { e.mark() },
	}
	for _, informer := range []cache.SharedIndexInformer{
		e.factory.Core().V1().Pods().Informer(),
		e.factory.Core().V1().Namespaces().Informer(),
		e.factory.Networking().V1().NetworkPolicies().Informer(),
	} {
		if _, err := informer.AddEventHandler(mark); err != nil {
			return fmt.Errorf("adding an event handler: %w", err)
		}
	}
	e.factory.Start(ctx.Done())
	e.factory.WaitForCacheSync(ctx.Done())

	serving := make(chan error, 1)
	go func() { serving <- gate.Serve(e.admit) }()
	for {
		select {
		case err := <-serving:
			return fmt.Errorf("serving the CNI plugin: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-e.changed:
			if err := e.apply(); err != nil {
				fmt.Fprintln(e.log, err)
				time.Sleep(time.Second)
				e.mark()
			}
		}
	}
}

func (e *Enforcer) mark() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// admit returns when the rules of a pod, which has an address and no process yet, are in.
func (e *Enforcer) admit(ctx context.Context, pod gate.Pod) error {
	uid := types.UID(pod.UID)
	// The kubelet may have seen the pod before we did.
	err := wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(context.Context) (bool, error) {
		found, err := e.pods.Pods(pod.Namespace).Get(pod.Name)
		return err == nil && found.UID == uid, nil
	})
	if err != nil {
		return errors.New("the enforcer has not seen the pod")
	}
	e.mu.Lock()
	e.early[uid] = pod.IP
	e.mu.Unlock()
	return e.apply()
}

// apply replaces the table, if it has to be another one.
func (e *Enforcer) apply() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	snapshot, err := e.observe()
	if err != nil {
		return err
	}
	rules := snapshot.Rules()
	if rules == e.last {
		return nil
	}
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules)
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("replacing the rules: %w: %s\n%s", err, out, rules)
	}
	e.last = rules
	return nil
}

func (e *Enforcer) observe() (Snapshot, error) {
	pods, podsErr := e.pods.List(labels.Everything())
	namespaces, namespacesErr := e.namespaces.List(labels.Everything())
	policies, policiesErr := e.policies.List(labels.Everything())
	if err := errors.Join(podsErr, namespacesErr, policiesErr); err != nil {
		return Snapshot{}, fmt.Errorf("listing: %w", err)
	}
	e.forget(pods)
	return Snapshot{Pods: pods, Namespaces: namespaces, Policies: policies, Early: e.early}, nil
}

// forget drops the early addresses of pods that show theirs by now, or are gone.
func (e *Enforcer) forget(pods []*corev1.Pod) {
	waiting := map[types.UID]bool{}
	for _, pod := range pods {
		waiting[pod.UID] = pod.Status.PodIP == ""
	}
	for uid := range e.early {
		if !waiting[uid] {
			delete(e.early, uid)
		}
	}
}
