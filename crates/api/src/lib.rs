//! PromQL over the network: HTTP v1, clients, UI
