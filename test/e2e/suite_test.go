// Package e2e tests Tenantry on the real cluster of the kubeconfig, in which hack/test-e2e.sh has deployed the operator. It
// tests what needs more than envtest: the Job controller, the garbage collector, a kubelet, a network.
package e2e

import (
	"context"
	"os"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/format"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// The operator, as config/default deploys it.
const (
	operatorNamespace  = "tenantry-system"
	operatorDeployment = "tenantry-controller-manager"
	operatorAccount    = "tenantry"
)

// operatorPods selects the operator's pods in its namespace.
var operatorPods = client.MatchingLabels{"control-plane": "controller-manager"}

const (
	// patience is how long to wait for something that takes seconds on an idle machine.
	patience = 2 * time.Minute
	// forever is a number of seconds that is longer than any spec waits: such a run ends only if something stops it.
	forever = "3600"
)

var (
	restConfig *rest.Config
	scheme     = runtime.NewScheme()
	// kube is a client for the cluster's administrator.
	kube client.Client
	// clientset is for what a client.Client can't do: logs, watches and the like.
	clientset kubernetes.Interface
)

func TestE2E(t *testing.T) {
	ctrl.SetLogger(klog.Background())
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(patience)
	SetDefaultEventuallyPollingInterval(250 * time.Millisecond)
	EnforceDefaultTimeoutsWhenUsingContexts()
	format.MaxLength = 0
	RunSpecs(t, "Tenantry on a real cluster")
}

var _ = BeforeSuite(func(ctx SpecContext) {
	const how = "Run `make test-e2e`, which brings up a cluster with the operator in it, " +
		"or let KUBECONFIG name a cluster and run hack/deploy.sh first."
	// KUBECONFIG has to be set: the default kubeconfig may be that of a cluster that people work with, and one of the specs
	// kills the operator.
	Expect(os.Getenv(clientcmd.RecommendedConfigPathEnvVar)).NotTo(BeEmpty(), "There is no cluster to test on. "+how)
	var err error
	restConfig, err = ctrl.GetConfig()
	Expect(err).NotTo(HaveOccurred(), "There is no cluster to test on. "+how)
	restConfig.QPS = -1

	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	clientset, err = kubernetes.NewForConfig(restConfig)
	Expect(err).NotTo(HaveOccurred())
	_, err = clientset.Discovery().ServerVersion()
	Expect(err).NotTo(HaveOccurred(), "No cluster answers at "+restConfig.Host+". "+how)
	kube = clientAs("")

	var deployment appsv1.Deployment
	key := client.ObjectKey{Namespace: operatorNamespace, Name: operatorDeployment}
	Expect(kube.Get(ctx, key, &deployment)).To(Succeed(), "The operator is not deployed in the cluster at "+restConfig.Host+". "+how)
	Expect(deployment.Status.ReadyReplicas).To(BeNumerically(">", 0), "The operator does not run in the cluster at "+restConfig.Host+". "+how)
})

// clientAs returns a client for a user who is in these groups and in system:authenticated, or for the cluster's
// administrator if no user is given. It validates strictly, as kubectl does.
func clientAs(user string, groups ...string) client.Client {
	GinkgoHelper()
	made, err := client.New(configAs(user, groups...), client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	return client.WithFieldValidation(made, "Strict")
}

// asOperator returns a client that the admission policies let delete what they let nobody else delete. It stands for what can happen
// while a policy is not in force.
func asOperator() client.Client {
	GinkgoHelper()
	return clientAs("system:serviceaccount:"+operatorNamespace+":tenantry", "system:masters")
}

func configAs(user string, groups ...string) *rest.Config {
	config := rest.CopyConfig(restConfig)
	if user != "" {
		config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	}
	return config
}

// The Tenants of the current spec, for the report if it fails, and of all specs of this process.
var tenantsOfSpec, tenantsOfSuite []*v1alpha1.Tenant

var _ = BeforeEach(func() { tenantsOfSpec = nil })

var _ = JustAfterEach(func(ctx SpecContext) {
	if CurrentSpecReport().Failed() {
		reportOperator(ctx)
		for _, tenant := range tenantsOfSpec {
			reportTenant(ctx, tenant)
		}
	}
})

// Each spec deletes its tenants and does not wait for that, so that the next spec can start. This checks at the end that
// all of them are gone.
var _ = AfterSuite(func(ctx SpecContext) {
	for _, tenant := range tenantsOfSuite {
		Eventually(ctx, func(ctx context.Context) error {
			return kube.Get(ctx, client.ObjectKeyFromObject(tenant), &v1alpha1.Tenant{})
		}).Should(MatchError(isNotFound, "IsNotFound"), "Tenant %s should be gone, and waits: %s", tenant.Name, deferred(ctx, tenant))
	}
})
