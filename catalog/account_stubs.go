package catalog

type accountScratch struct{}
type answerCache struct{}
type packSums struct{}
