package main

import "time"

// source is a public report of something like a scenario.
type source struct {
	What string `json:"what"`
	URL  string `json:"url"`
}

// kind is what happens in a scenario.
type kind int

const (
	release    kind = iota // bad versions are released, one after another
	selector               // the template gets a nodeSelector that no node matches
	labels                 // nodes lose the label that the DaemonSet selects
	dependency             // a good version is released, and what all agents depend on goes away in the middle
)

// scenario is something that goes wrong. Its times are those of a real fleet.
type scenario struct {
	Name, Title string
	Sources     []source
	Kind        kind
	Bad         behaviour // of the bad versions
	Versions    int       // how many bad versions are released, one every releaseEvery; 0: one
	// Observe is the time from the release, or from the beginning of what goes wrong without one, until somebody takes
	// it back.
	Observe time.Duration
	// MaxScale bounds the time scale, where something is judged by real time; 0: any.
	MaxScale float64
	// Note is what readers must know about its line.
	Note string
}

const (
	// releaseEvery is the time between two bad versions in a row.
	releaseEvery = 5 * time.Minute
	// outageAt is the share of the nodes that have the new version when the dependency
	// goes away.
	outageAt = 0.05
	// lostShare is the share of the nodes that lose their label.
	lostShare = 0.3
)

func scenarios() []scenario {
	return []scenario{
		{Name: "bad-image", Title: "its image cannot be pulled", Observe: 20 * time.Minute, Bad: behaviour{Waiting: "ImagePullBackOff"}},
		{Name: "crash", Title: "it crashes at once", Observe: 20 * time.Minute, Bad: behaviour{Ends: "Error"}},
		{Name: "late-crash", Title: "it crashes after five minutes, and again and again", Observe: 30 * time.Minute,
			Bad: behaviour{Ends: "Error", EndsAfter: 5 * time.Minute}},
		{Name: "never-ready", Title: "it is never ready", Observe: 25 * time.Minute, Bad: behaviour{NeverReady: true},
			Sources: []source{{"OpenShift: a rollout that hung at 90% was to be pushed further", "https://github.com/openshift/cluster-network-operator/pull/935"}}},
		{Name: "node-down", Title: "it is ready, and takes its node down at once", Observe: 25 * time.Minute, Bad: behaviour{BreaksNode: true},
			Sources: []source{{"CrowdStrike, 2024-07-19", "https://www.crowdstrike.com/blog/falcon-content-update-preliminary-post-incident-report/"}}},
		{Name: "node-down-2m", Title: "it takes its node down after two minutes", Observe: 25 * time.Minute,
			Bad:     behaviour{BreaksNode: true, BreaksAfter: 2 * time.Minute},
			Sources: []source{{"Datadog, 2023-03-08", "https://www.datadoghq.com/blog/engineering/2023-03-08-deep-dive-into-platform-level-impact/"}}},
		{Name: "node-down-10m", Title: "it takes its node down after ten minutes", Observe: 35 * time.Minute,
			Bad: behaviour{BreaksNode: true, BreaksAfter: 10 * time.Minute},
			Note: "The fault takes a little longer to show than a soak of the policy lasts, so the first two waves pass. When the first node breaks, the second wave is under " +
				"way, and one node of 100 is within the 2% that may fail. When the nodes of the second wave break, its soak has just ended, and 100 nodes of the last wave have " +
				"the version. With a soak of 30 minutes the first wave would not pass."},
		{Name: "leak", Title: "it leaks, and is killed after twenty minutes", Observe: 45 * time.Minute,
			Bad:     behaviour{Ends: "OOMKilled", EndsAfter: 20 * time.Minute},
			Sources: []source{{"EKS node monitoring agent", "https://github.com/aws/containers-roadmap/issues/2605"}},
			Note: "Nothing has failed when a soak ends, and the policy stops only at the third restart, after an hour. More nodes than with Kubernetes' controller can be without " +
				"a pod at once (178 in another run), because ours is slower: when the pods of its second wave are killed, all at about the same time, its last wave is under way, with up to 10% of the " +
				"nodes. Kubernetes' controller has replaced all pods before the first is killed."},
		{Name: "api-flood", Title: "it floods the API server", Observe: 30 * time.Minute, MaxScale: 10, Bad: behaviour{Floods: true},
			Sources: []source{{"OpenAI, 2024-12-11", "https://securityonline.info/openai-services-hit-by-major-outage-due-to-telemetry-service-deployment"}},
			Note: "The flood is simulated: each node with the version delays the API server's answers to controllers and the scheduler, all together by up to 2.5 real " +
				"seconds, which takes 5% of the nodes. One node of 1,000 cannot show it: it adds 50 milliseconds. What the 100 nodes of the second wave do to the server, ours " +
				"notices while that wave soaks. It judges the server by a minute of real time, so a minute of this line lasts 6 s. The version works otherwise; its nodes count " +
				"as exposed."},
		{Name: "bad-config", Title: "its ConfigMap lacks a key (CreateContainerConfigError)", Observe: 20 * time.Minute,
			Bad:     behaviour{Waiting: "CreateContainerConfigError"},
			Sources: []source{{"Cloudflare, 2025-11-18", "https://blog.cloudflare.com/18-november-2025-outage/"}},
			Note:    "The template names a new ConfigMap. An edit of a ConfigMap that is already mounted reaches every node, whatever the policy."},
		{Name: "selector-typo", Title: "its nodeSelector has a typo", Observe: 10 * time.Minute, Kind: selector,
			Sources: []source{{"Ceph monitors", "https://github.com/kubernetes/kubernetes/issues/54565"}},
			Note:    "No node matches, so none is exposed. Kubernetes' controller deletes the pods of all nodes; ours keeps them until a person allows it."},
		{Name: "label-lost", Title: "no release: 30% of the nodes lose the label that it selects", Observe: 10 * time.Minute, Kind: labels,
			Sources: []source{{"Reddit, 2023-03-14", "https://www.reddit.com/r/RedditEng/comments/11xx5o0/you_broke_reddit_the_piday_outage/"},
				{"Cilium agents", "https://github.com/kubernetes/kubernetes/pull/129315"}},
			Note: "Our guard keeps the pods until a person allows their end, or until the labels are back. Its hour is an hour of real time."},
		{Name: "dependency", Title: "a good version; what all agents need goes away in the middle, for 15 minutes", Observe: 15 * time.Minute, Kind: dependency,
			Sources: []source{{"Antrea, 503 nodes", "https://github.com/antrea-io/antrea/issues/2534"}, {"Calico", "https://github.com/kubernetes/kubernetes/issues/111073"}},
			Note: "The outage begins when 5% of the nodes have the new version: *before* is how many had it then, in the normal course, and times count from then on. *Exposed* are " +
				"the nodes that have it when the outage ends. Ours is in its second wave, 10% of the nodes: it has deleted their old pods before anything was wrong, finishes them, " +
				"reaches no further node, stops, and waits for a person. Kubernetes' controller replaces pods that are not ready at once."},
		{Name: "three-fixes", Title: "three versions in a row, every five minutes, that crash at once", Observe: 20 * time.Minute, Versions: 3, Bad: behaviour{Ends: "Error"},
			Sources: []source{{"Kubernetes", "https://github.com/kubernetes/kubernetes/issues/123232"}},
			Note:    "Both times to the stop count from the first version. The third comes after ten minutes."},
	}
}

func scenarioNames() (names []string) {
	for _, s := range scenarios() {
		names = append(names, s.Name)
	}
	return names
}
