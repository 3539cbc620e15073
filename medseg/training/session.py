"""One sitting of a run: from its beginning or its checkpoint until it is done, or interrupted."""



