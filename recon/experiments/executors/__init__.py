"""How the runs of a plan are carried out: in processes of this machine; imports run, folder and plan."""
