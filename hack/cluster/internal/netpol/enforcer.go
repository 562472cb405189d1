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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
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

// Enforcer keeps the kernel's rules in accordance with the cluster's policies.
type Enforcer struct {
	client     kubernetes.Interface
	factories  []informers.SharedInformerFactory
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   netlisters.NetworkPolicyLister
	informers  []cache.SharedIndexInformer
	log        io.Writer
	changed    chan struct{}

	mu    sync.Mutex // protects the fields below
	early map[types.UID]netip.Addr
	last  string
}

// NewEnforcer returns an Enforcer for the pods of a node. Pods of a simulated node, which can have thousands, have no
// network.
func NewEnforcer(client kubernetes.Interface, node string, log io.Writer) *Enforcer {
	factory := informers.NewSharedInformerFactory(client, 0)
	podFactory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
		}))
	return &Enforcer{
		client:     client,
		factories:  []informers.SharedInformerFactory{factory, podFactory},
		pods:       podFactory.Core().V1().Pods().Lister(),
		namespaces: factory.Core().V1().Namespaces().Lister(),
		policies:   factory.Networking().V1().NetworkPolicies().Lister(),
		informers: []cache.SharedIndexInformer{
			podFactory.Core().V1().Pods().Informer(),
			factory.Core().V1().Namespaces().Informer(),
			factory.Networking().V1().NetworkPolicies().Informer(),
		},
		log:     log,
		changed: make(chan struct{}, 1),
		early:   map[types.UID]netip.Addr{},
	}
}

// Run enforces the policies until the context ends or the CNI plugin can't be served any more.
func (e *Enforcer) Run(ctx context.Context) error {
	mark := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { e.mark() },
		UpdateFunc: func(_, _ any) { e.mark() },
		DeleteFunc: func(any) { e.mark() },
	}
	for _, informer := range e.informers {
		if _, err := informer.AddEventHandler(mark); err != nil {
			return fmt.Errorf("adding an event handler: %w", err)
		}
	}
	for _, factory := range e.factories {
		factory.Start(ctx.Done())
		factory.WaitForCacheSync(ctx.Done())
	}

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

// admit returns when the rules of a pod are in the kernel. The pod has an address and no process yet. The rules are those
// of all policies that exist now, even if the informers have not delivered them yet.
func (e *Enforcer) admit(ctx context.Context, pod gate.Pod) error {
	uid := types.UID(pod.UID)
	if err := until(ctx, func() bool {
		seen, err := e.pods.Pods(pod.Namespace).Get(pod.Name)
		return err == nil && seen.UID == uid
	}); err != nil {
		return fmt.Errorf("waiting to see the pod: %w", err)
	}
	policies, err := e.client.NetworkingV1().NetworkPolicies(pod.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("listing the policies of %s: %w", pod.Namespace, err)
	}
	for _, policy := range policies.Items {
		if err := until(ctx, func() bool {
			seen, err := e.policies.NetworkPolicies(policy.Namespace).Get(policy.Name)
			return apierrors.IsNotFound(err) && policy.DeletionTimestamp != nil ||
				err == nil && (seen.UID != policy.UID || seen.Generation >= policy.Generation)
		}); err != nil {
			return fmt.Errorf("waiting to see policy %s: %w", policy.Name, err)
		}
	}
	e.mu.Lock()
	e.early[uid] = pod.IP
	e.mu.Unlock()
	return e.apply()
}

func until(ctx context.Context, done func() bool) error {
	return wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(context.Context) (bool, error) {
		return done(), nil
	})
}

// apply replaces the table if the rules have changed.
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

// forget removes the early addresses of pods whose status has an address by now, or that are gone.
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
