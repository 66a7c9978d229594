"""The other end of the agents' calls home: enrolment, tables for each cluster, replicas seen there."""
