//! every Source but the local head, and the StoreAPI server over any Source
